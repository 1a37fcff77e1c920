// The process of one workload: prints what it measured as JSON, once the data has been checked.
import { writeSync } from 'node:fs'
import process from 'node:process'
import { backup, restored } from './workloads/backup.mjs'
import { bare, durable } from './workloads/durable.mjs'
import { catchUp, feed } from './workloads/feed.mjs'
import { fill } from './workloads/fill.mjs'
import { merge, mergeUnderLoad } from './workloads/merge.mjs'
import { openAgain } from './workloads/open.mjs'
import { get, iterate } from './workloads/read.mjs'
import { rewrite, settle, write } from './workloads/write.mjs'

const workloads = {
  ...{ write, rewrite, settle, fill, durable, bare, get, iterate, open: openAgain },
  ...{ merge, mergeUnderLoad, backup, restored, feed, catchUp },
}
const [workload, text] = process.argv.slice(2)
const setup = JSON.parse(text)
const result = (await workloads[workload](setup)) ?? {}
// Written at once and not through a stream: the kill may follow.
writeSync(1, JSON.stringify(result))
if (setup.kill === true) process.kill(process.pid, 'SIGKILL')
