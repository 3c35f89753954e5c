// Contenders take turns in blocks, in a new order every round, so that a busy machine or a changed clock rate hits all
// of them; what is compared is the ratio inside one round. A block is long enough for several collections of garbage:
// with shorter ones the median would leave out what a contender's garbage costs. Measured is the processor time of this process, all
// its threads and collecting garbage included, not the time on the wall. A contender may be asynchronous: its calls
// are awaited one after the other.

const BLOCK_MS = 200
const WARM_UP_BLOCKS = 3
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 15)

/**
 * @param {string} title
 * @param {Record<string, () => unknown>} contenders by name; the first is the one that the others are compared with
 * @param {{ bytes?: number }} [options] bytes of payload in one call, for a rate
 * @returns {Promise<Record<string, number>>} how many calls of the first fit in one of each other: the median of the rounds
 */
export async function compare(title, contenders, { bytes } = {}) {
  const names = Object.keys(contenders)
  const calls = {}
  for (const name of names) calls[name] = await callsInBlock(contenders[name])
  const times = Object.fromEntries(names.map((name) => [name, []]))
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of rotated(names, round)) times[name].push(await block(contenders[name], calls[name]))
  }
  const [first, ...others] = names
  console.log(`\n${title}`)
  const width = Math.max(...names.map((name) => name.length))
  for (const name of names) {
    const typical = median(times[name])
    const rate = bytes === undefined ? '' : `  ${(bytes / 1e6 / (typical / 1000)).toFixed(1).padStart(7)} MB/s`
    console.log(`  ${name.padEnd(width)}  ${duration(typical).padStart(9)} a call (${spread(times[name], duration)})${rate}`)
  }
  const speed = {}
  for (const name of others) {
    const ratios = times[name].map((ms, round) => ms / times[first][round])
    speed[name] = median(ratios)
    console.log(`  ${first} is ${speed[name].toFixed(2)} times as fast as ${name} (${spread(ratios, (ratio) => ratio.toFixed(2))})`)
  }
  return speed
}

/** Rounds start with another contender each, and go through them backwards every other time. */
function rotated(names, round) {
  const from = round % names.length
  const order = [...names.slice(from), ...names.slice(0, from)]
  return round % 2 === 0 ? order : order.reverse()
}

/** Warms up, and finds how many calls make a block. */
async function callsInBlock(call) {
  let calls = 1
  for (let warm = 0; warm < WARM_UP_BLOCKS;) {
    const ms = (await block(call, calls)) * calls
    if (ms < BLOCK_MS / 2) calls *= 2
    else {
      calls = Math.max(1, Math.round((calls * BLOCK_MS) / ms))
      warm++
    }
  }
  return calls
}

/** @returns milliseconds of one call */
async function block(call, calls) {
  const started = process.cpuUsage()
  for (let i = 0; i < calls; i++) {
    const result = call()
    if (result instanceof Promise) await result
  }
  const { user, system } = process.cpuUsage(started)
  return (user + system) / 1000 / calls
}

function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.round(q * (sorted.length - 1))]
}

const median = (values) => quantile(values, 0.5)
/** Where the middle eighty of a hundred rounds lie. */
const spread = (values, text) => `${text(quantile(values, 0.1))} to ${text(quantile(values, 0.9))}`
const duration = (ms) => (ms >= 1 ? `${ms.toFixed(2)} ms` : `${(ms * 1000).toFixed(1)} µs`)
