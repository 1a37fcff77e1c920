// What a program does all day: look up, list, update, and change several things as one.
import { inCountry, isSame, largest } from '../cities.mjs'
import { isCaskyError, open } from '../package.mjs'
import { heading, line, must, number, seconds, timed } from '../screen.mjs'

export async function daily(path, cities) {
  heading('Look up, list, update')
  const { result: db, ms } = await timed(() =>
    open(path, { valueEncoding: 'json', maxSegmentBytes: 4_000_000 }),
  )
  line('open', `${number(db.size)} entries in ${seconds(ms)}`)
  lookUp(db, cities)
  list(db)
  await update(db, cities)
  await batch(db)
  await db.close()
}

function lookUp(db, cities) {
  const { key, value } = largest(inCountry(cities, 'IT'))
  const got = db.get(key)
  must(isSame(got, value), `${key} has another value`)
  line('get', `${key} is ${got.name}, ${number(got.population)} people`)
  const capitals = ['FR', 'JP', 'KE', 'PE'].map((country) => {
    return inCountry(cities, country).find((city) => city.value.capital).key
  })
  const names = db.getMany([...capitals, 'city/XX/none']).map((city) => city?.name ?? 'undefined')
  line('getMany', names.join(', '))
}

function list(db) {
  const region = [...db.entries({ prefix: 'city/IT/07/' })]
  const [, most] = region.reduce((a, b) => (b[1].population > a[1].population ? b : a))
  line('entries, by prefix', `city/IT/07/ holds ${number(region.length)} cities, ${most.name} the largest`)
  const last = [...db.keys({ prefix: 'city/', lt: 'city/US/', reverse: true, limit: 2 })]
  line('keys, backwards', `before city/US/ come ${last.join(' and ')}`)
}

async function update(db, cities) {
  const before = inCountry(cities, 'US')
  const puts = []
  // The iterator goes on showing the store as it was when it was asked for.
  for (const [key, city] of db.entries({ prefix: 'city/US/' })) {
    puts.push(db.put(key, { ...city, population: city.population + 1 }))
  }
  await Promise.all(puts)
  const people = (each) => each.reduce((sum, { population }) => sum + population, 0)
  const grown = people([...db.values({ prefix: 'city/US/' })]) - people(before.map(({ value }) => value))
  must(grown === before.length, `${before.length} cities grew by one each, by ${grown} in all`)
  line(
    'update while listing',
    `${number(puts.length)} cities of the US grew by one, together by ${number(grown)}`,
  )
}

async function batch(db) {
  await db.batch([
    { type: 'put', key: 'twin/Rome', value: 'Paris' },
    { type: 'put', key: 'twin/Paris', value: 'Rome' },
  ])
  const { lastSequence } = db.stats()
  const refused = await db
    .batch([
      { type: 'del', key: 'twin/Rome' },
      { type: 'del', key: '' },
    ])
    .catch((error) => (isCaskyError(error) ? error.code : error))
  must(refused === 'CASKY_INVALID_KEY', `a bad batch ended as ${refused}`)
  must(
    db.get('twin/Rome') === 'Paris' && db.stats().lastSequence === lastSequence,
    'half a batch was applied',
  )
  const twins = [...db.entries({ prefix: 'twin/' })].map(([key, value]) => `${key} = ${value}`).join(', ')
  line('batch, all or nothing', `${twins}; one with a bad key was refused whole (${refused})`)
}
