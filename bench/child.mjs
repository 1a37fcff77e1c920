// The process of one workload: prints what it measured as JSON, once the data has been checked.
import { writeSync } from 'node:fs'
import process from 'node:process'
import { bare, durable } from './workloads/durable.mjs'
import { fill } from './workloads/fill.mjs'
import { merge } from './workloads/merge.mjs'
import { get, iterate, openAgain } from './workloads/read.mjs'

const workloads = { fill, durable, bare, get, iterate, open: openAgain, merge }
const [workload, text] = process.argv.slice(2)
const setup = JSON.parse(text)
const result = await workloads[workload](setup)
// Written at once and not through a stream: the kill may follow.
writeSync(1, JSON.stringify(result))
if (setup.kill === true) process.kill(process.pid, 'SIGKILL')
