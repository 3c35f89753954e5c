// node bench/run.mjs [ratchet|resident|service|sealed-box|cbor]: prints times and ratios. Needs `npm run build` and Node 24. BENCH_ROUNDS=100 for a quieter result.
import { existsSync } from 'node:fs'
import os from 'node:os'

if (Number(process.versions.node.split('.')[0]) < 24) {
  console.error(`Node 24 is needed, this is ${process.versions.node}: use node_modules/.bin/node`)
  process.exit(2)
}
if (!existsSync(new URL('../libs/ratchet/dist/double-ratchet.js', import.meta.url))) {
  console.error('Nothing is built: run `npm run build` first.')
  process.exit(2)
}
const benches = {
  ratchet: async () => (await import('./ratchet.mjs')).benchRatchet(),
  resident: async () => (await import('./resident.mjs')).benchResident(),
  service: async () => (await import('./service.mjs')).benchService(),
  'sealed-box': async () => (await import('./sealed-box.mjs')).benchSealedBox(),
  cbor: async () => (await import('./cbor.mjs')).benchCbor(),
}
const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(benches)
const unknown = wanted.filter((name) => !(name in benches))
if (unknown.length > 0) {
  console.error(`No bench is called ${unknown.join(', ')}. There are: ${Object.keys(benches).join(', ')}`)
  process.exit(2)
}
console.log(`Node ${process.versions.node}, ${os.availableParallelism()} cores, load ${os.loadavg()[0].toFixed(1)}`)
for (const name of wanted) await benches[name]()
