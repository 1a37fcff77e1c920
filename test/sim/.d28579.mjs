// test/sim/bundle.ts
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { build } from "esbuild";
var root = resolve(import.meta.dirname, "../..");
var SMALL_TABLES = [
  { file: "src/memtable.ts", find: "const SLOTS = 16_384", replace: "const SLOTS = 512" },
  {
    file: "src/memtable.ts",
    find: "const RECORDS_MAX = Math.ceil(WRITE_BYTES / (RECORD_HEADER_BYTES + 1))",
    replace: "const RECORDS_MAX = 256; void WRITE_BYTES"
  },
  { file: "src/keydir/keydir.ts", find: "const TABLE_BITS = 12", replace: "const TABLE_BITS = 3" }
];
var POOL = [
  {
    file: "src/kernels.ts",
    find: "compiled ??= new WebAssembly.Module",
    replace: `const pool = (globalThis as any).caskyKernels
    const pooled = pool?.take(cacheBytes)
    if (pooled !== undefined) return pooled
    pool?.made(cacheBytes, this)
    compiled ??= new WebAssembly.Module`
  }
];
var SMALL_ROOMS = [
  { file: "assembly/layout.ts", find: "WRITE_BYTES = 0x4_0000", replace: "WRITE_BYTES = 3000" },
  { file: "assembly/layout.ts", find: "READ_BYTES = 0x8_0000", replace: "READ_BYTES = 700" }
];
function change(text, { file, find, replace }) {
  const count = text.split(find).length - 1;
  if (count !== 1) throw new Error(`${file} holds ${count} times what is to be changed: ${find}`);
  return text.replace(find, () => replace);
}
function changing(changes) {
  const byFile = /* @__PURE__ */ new Map();
  for (const each of changes) {
    const path = join(root, each.file);
    byFile.set(path, [...byFile.get(path) ?? [], each]);
  }
  const done = /* @__PURE__ */ new Set();
  return {
    name: "change sources",
    setup: (builder) => {
      builder.onLoad({ filter: /\/(src|assembly)\/.*\.ts$/ }, ({ path }) => {
        const wanted = byFile.get(path);
        if (wanted === void 0) return void 0;
        done.add(path);
        return { contents: wanted.reduce(change, readFileSync(path, "utf8")), loader: "ts" };
      });
      builder.onEnd(() => {
        for (const path of byFile.keys()) {
          if (!done.has(path)) throw new Error(`nothing imports what is to be changed: ${path}`);
        }
      });
    }
  };
}
async function bundleWorker(outfile, rooms2, mutation = [], entry = join(root, "test/sim/worker.ts")) {
  await build({
    entryPoints: [entry],
    bundle: true,
    platform: "node",
    format: "esm",
    outfile,
    logLevel: "error",
    plugins: [changing([...POOL, ...SMALL_TABLES, ...rooms2 === "small" ? SMALL_ROOMS : [], ...mutation])]
  });
}

// test/sim/drive.ts
import { Worker } from "node:worker_threads";

// test/sim/oracle.ts
function newTally() {
  return { states: 0, crashes: 0, nested: 0, calls: 0, faults: 0, flips: 0, traces: 0 };
}
var PROBE = { key: "probe", value: "p".repeat(600) };

// test/sim/drive.ts
function add(tallies) {
  const sum = newTally();
  for (const tally of tallies) for (const key of Object.keys(sum)) sum[key] += tally[key];
  return sum;
}
async function drive(jobs, onProgress) {
  const tallies = /* @__PURE__ */ new Map();
  const failures = [];
  const workers = jobs.map(({ bundle, job }) => new Worker(bundle, { workerData: job }));
  const stop = () => {
    for (const worker of workers) void worker.terminate();
  };
  await Promise.all(
    workers.map(
      (worker, i) => new Promise((resolve2, reject) => {
        worker.on("message", ({ tally, failure }) => {
          tallies.set(i, tally);
          onProgress?.(add(tallies.values()));
          if (failure === void 0) return;
          failures.push(failure);
          stop();
        });
        worker.on("error", (error) => {
          stop();
          reject(error);
        });
        worker.on("exit", () => resolve2());
      })
    )
  );
  return { tally: add(tallies.values()), failures };
}
function describeFailure(failure) {
  const { kind: kind2, seed, fault, message, where, trace } = failure;
  const steps = trace.steps.map((step, i) => `  ${i + 1}. ${JSON.stringify(step)}`).join("\n");
  return [
    message,
    where,
    `seed ${seed}, a case of ${kind2}${fault === void 0 ? "" : `, the first fault at call ${fault.call} (draws ${fault.draws})`}; again: CASKY_SIM_SEED=${seed} npx vitest run test/sim`,
    `settings ${JSON.stringify(trace.settings)}`,
    `to keep: ${JSON.stringify({ trace, fault })}`,
    `the shortest trace found, ${trace.steps.length} steps:`,
    steps
  ].join("\n");
}

// ../../tmp/d10/d.ts
import { rmSync } from "node:fs";
var [first, seeds, kind, rooms, seconds] = process.argv.slice(2);
var wk = `/tmp/d10/wk${process.pid}.mjs`;
var debug = process.env.DEBUG === void 0 ? [] : [{ file: "src/repair.ts", find: "    if (health.damage.length === 0) return", replace: `
    const log: string[] = ((globalThis as any).lastRepairs ??= [])
    log.push('--- repair:  ' + '\\n' + found.manifestState + ' aside ' + found.aside.map((f) => f.name) + ' leftovers ' + found.leftovers.map((f) => f.name) + ' next ' + found.nextSegmentId + '\\n' + found.segments.map((s) => '  ' + s.read.path + ' id ' + s.entry.header.id + ' salt ' + s.entry.header.salt + ' first ' + s.entry.header.firstSequence + ' prev ' + JSON.stringify(s.entry.header.previous) + ' copies ' + JSON.stringify(s.entry.header.copies) + ' ' + s.entry.state + ' exp ' + JSON.stringify(s.expected) + ' read ' + s.read.bytes + '/' + s.read.records + '/' + s.read.lastSequence + ' dmg ' + s.isDamaged).join('\\n') + '\\n' + health.damage.map((d) => '  ! ' + d.path + ' ' + d.offset + '+' + d.bytes + ' ' + d.reason + ' [' + d.firstSequence + ',' + d.lastSequence + '] ' + d.keys.map((k) => Buffer.from(k).toString().slice(0, 10))).join('\\n') + '\\n  torn ' + JSON.stringify(health.tornTails))
    if (health.damage.length === 0) return` }, { file: "src/errors.ts", find: "export class CaskyError", replace: `;(globalThis as any).lastRepairs ??= []
export class CaskyError` }];
await bundleWorker(wk, rooms ?? "small", debug);
var started = Date.now();
var W = Number(process.env.W ?? 1);
var out = await drive(Array.from({ length: W }, (_, i) => ({ bundle: wk, job: { firstSeed: Number(first) + i, stride: W, seeds: Number(seeds), untilMs: Date.now() + Number(seconds ?? 60) * 1e3, kind: kind === "all" ? void 0 : kind } })));
for (const f of out.failures) console.log(describeFailure(f).slice(0, Number(process.env.CHARS ?? 3500)));
console.log(JSON.stringify(out.tally), (Date.now() - started) / 1e3);
rmSync(wk);
