import * as casky from 'casky'
import { serve } from './worker.mjs'

await serve(casky)
