/** NATS user keys (Ed25519, in NATS's text form): one per service. */
import { nkeys } from 'nats'

/** @returns seed: 58 ASCII bytes for the file `nats.nk` (mode 0400; wipe after writing); publicKey: goes into the server's configuration */
export function createNkey(): { seed: Uint8Array; publicKey: string } {
  const pair = nkeys.createUser()
  const seed = Uint8Array.from(pair.getSeed())
  const publicKey = pair.getPublicKey()
  pair.clear()
  return { seed, publicKey }
}

/** @param seed as read from the file; not modified */
export function publicNkey(seed: Uint8Array): string {
  const pair = nkeys.fromSeed(trimSeed(Uint8Array.from(seed)))
  const publicKey = pair.getPublicKey()
  pair.clear()
  return publicKey
}

/** Sign the server's nonce. @param seed is wiped. @returns what the NATS CONNECT message wants */
export function signNonce(seed: Uint8Array, nonce: string | undefined): { nkey: string; sig: string } {
  const pair = nkeys.fromSeed(trimSeed(seed))
  const nkey = pair.getPublicKey()
  const sig = nonce === undefined ? '' : nkeys.encode(pair.sign(new TextEncoder().encode(nonce)))
  pair.clear()
  seed.fill(0)
  return { nkey, sig }
}

/** People's editors and `echo` end files with a line break. */
function trimSeed(seed: Uint8Array): Uint8Array {
  let end = seed.length
  while (end > 0 && (seed[end - 1] === 0x0a || seed[end - 1] === 0x0d || seed[end - 1] === 0x20)) end--
  return seed.subarray(0, end)
}
