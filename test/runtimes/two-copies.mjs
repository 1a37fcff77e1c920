// Both builds of the package in one process, as happens where one dependency imports it and another requires it.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import process from 'node:process'
import * as imported from 'casky'

const required = createRequire(import.meta.url)('casky')
const path = process.argv[2]
assert.notEqual(imported.CaskyError, required.CaskyError, 'two copies')

let checks = 0
for (const [first, second] of [
  [imported, required],
  [required, imported],
]) {
  const db = await first.open(path)
  for (const open of [() => second.open(path), async () => second.openSync(path)]) {
    await assert.rejects(open, (error) => {
      assert.equal(error.code, 'CASKY_LOCKED')
      assert.equal(error.got.where, 'this-process')
      assert.ok(first.isCaskyError(error) && second.isCaskyError(error))
      assert.ok(error instanceof second.CaskyError && !(error instanceof first.CaskyError))
      checks++
      return true
    })
  }
  await db.put('written by', first === imported ? 'import' : 'require')
  await db.close()
  const other = second.openSync(path)
  assert.equal(other.get('written by'), first === imported ? 'import' : 'require')
  other.closeSync()
  checks++
}
console.log(JSON.stringify({ checks }))
