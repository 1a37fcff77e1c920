// `import`: runs the suite in the directory given, and prints its report as one line of JSON.
import process from 'node:process'
import * as casky from 'casky'
import { runSuite } from './suite.mjs'

console.log(JSON.stringify(await runSuite(casky, process.argv[2])))
