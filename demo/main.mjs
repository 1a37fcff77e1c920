// A tour of casky on real data: npm run demo
import process from 'node:process'
import { loadCities } from './cities.mjs'
import { directory, place } from './place.mjs'
import { bold, dim, green, number, print, red, seconds } from './screen.mjs'
import { crash } from './steps/crash.mjs'
import { daily } from './steps/daily.mjs'
import { damage } from './steps/damage.mjs'
import { expiry } from './steps/expiry.mjs'
import { importCities } from './steps/import.mjs'
import { numbers } from './steps/numbers.mjs'

const begin = performance.now()
const path = place('store')
try {
  const cities = loadCities()
  print(`${bold('casky')}, an embedded store that keeps what it acknowledged. Working in ${dim(directory)}`)
  await importCities(path, cities)
  await daily(path, cities)
  await expiry(path)
  const { acknowledged, kills } = await crash(path)
  await damage(path, place('copy'), cities)
  await numbers(path)
  const taken = seconds(performance.now() - begin)
  print()
  const kept = `${number(cities.length)} cities, and ${number(acknowledged)} writes`
  print(`${bold(green('Nothing was lost'))}: ${kept} that ${kills} processes had acknowledged when they`)
  print(`were killed. ${dim(`The whole tour took ${taken}.`)}`)
} catch (error) {
  print()
  print(`${bold(red('FAILED'))}: ${error instanceof Error ? error.message : error}`)
  if (error instanceof Error) print(dim(error.stack?.split('\n').slice(1).join('\n') ?? ''))
  process.exitCode = 1
}
