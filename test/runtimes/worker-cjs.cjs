const casky = require('casky')

import('./worker.mjs').then(({ serve }) => serve(casky))
