// `require`: runs the suite in the directory given, and prints its report as one line of JSON.
const process = require('node:process')
const casky = require('casky')

import('./suite.mjs')
  .then(({ runSuite }) => runSuite(casky, process.argv[2]))
  .then((report) => console.log(JSON.stringify(report)))
