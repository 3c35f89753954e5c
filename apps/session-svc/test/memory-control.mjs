// A process that leaves keys on its heap on purpose: shows that the scanner finds them. The keys come as hex in argv.
const forms = { raw: (key) => Uint8Array.from(key), hex: (key) => key.toString('hex'), base64: (key) => `x${key.toString('base64')}` }
Object.assign(forms, { base64url: (key) => key.toString('base64url'), clamped })
function clamped(key) {
  const copy = Uint8Array.from(key)
  copy[0] &= 248
  copy[31] = (copy[31] & 127) | 64
  return copy
}
process.stdin.once('data', (given) => {
  const keys = []
  for (let at = 0; at < given.length; at += 32) keys.push(given.subarray(at, at + 32))
  // One form of each key, so that finding one says nothing about the others.
  globalThis.kept = keys.map((key, i) => Object.values(forms)[i % 5](key))
  // Strings made of pieces are flattened when they are first read as a whole.
  for (const value of globalThis.kept) if (typeof value === 'string') Buffer.from(value).fill(0)
  given.fill(0)
  process.stdout.write('kept\n')
})
setInterval(() => globalThis.kept?.length, 60_000)
