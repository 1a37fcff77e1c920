// The process of one workload on one rival: prints what it measured as JSON, once the data has been checked.
import { writeSync } from 'node:fs'
import process from 'node:process'
import { watchOthers } from '../machine.mjs'
import { prepareStore, useEngine } from './store.mjs'
import { get, getMany, iterate, ycsb } from './workloads/get.mjs'
import { compacting, loading, memory, openAgain, rewriteAndDie } from './workloads/hold.mjs'
import { batches, durable, put } from './workloads/put.mjs'

const workloads = {
  ...{ prepare: prepareStore, put, durable, batches, get, getMany, ycsb, iterate },
  ...{ open: openAgain, rewriteAndDie, memory, loading, compacting },
}
const [workload, text] = process.argv.slice(2)
const setup = JSON.parse(text)
await useEngine(setup.engine)
const othersShare = watchOthers(setup.pin)
const result = (await workloads[workload](setup)) ?? {}
const share = othersShare()
const figures = Object.values(result)
if (share !== undefined)
  for (const each of typeof figures[0] === 'object' ? figures : [result]) each.othersShare = share
// Written at once and not through a stream: the kill may follow.
writeSync(1, JSON.stringify(result))
if (setup.kill === true) process.kill(process.pid, 'SIGKILL')
