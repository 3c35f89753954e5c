#!/usr/bin/env node
/**
 * Test vectors from outside, through the very functions that the product uses: JSON lines in, JSON lines out, in order.
 *
 *   node tools/vectors.mjs < requests.jsonl > answers.jsonl
 *
 * A request is `{ "id": …, "op": "…", …inputs }`; bytes are hex; `id` is echoed. An answer is `{ id, …outputs }`, a
 * refusal `{ id, error: code, message }` (with `ok: false` where the operation answers `ok`, and `errors` for documents).
 */
import { createInterface } from 'node:readline'
import { onNode24 } from './process/node24.mjs'

async function main() {
  const operations = await loadOperations()
  const lines = createInterface({ input: process.stdin, crlfDelay: Infinity })
  for await (const line of lines) {
    if (line.trim() === '') continue
    if (!process.stdout.write(`${JSON.stringify(answer(operations, line))}\n`))
      await new Promise((resolve) => process.stdout.once('drain', resolve))
  }
}

function answer(operations, line) {
  let request
  try {
    request = JSON.parse(line)
  } catch {
    return { id: null, error: 'Serialization', message: 'not a line of JSON' }
  }
  const id = request?.id ?? null
  const operation = Object.hasOwn(operations, request?.op) ? operations[request.op] : undefined
  if (operation === undefined) return { id, error: 'InvalidRequest', message: `unknown op; known: ${Object.keys(operations).join(', ')}` }
  try {
    return { id, ...operation.run(request) }
  } catch (error) {
    return { id, ...(operation.answersOk ? { ok: false } : {}), ...refusal(error) }
  }
}

function refusal(error) {
  if (typeof error?.code === 'string')
    return { error: error.code, message: error.message, ...(Array.isArray(error.violations) ? { errors: error.violations } : {}) }
  return {
    error: error instanceof InputError || error instanceof RangeError || error instanceof TypeError ? 'InvalidRequest' : 'Internal',
    message: error?.message ?? String(error),
  }
}

class InputError extends Error {}

function hex(value, name) {
  if (typeof value !== 'string' || value.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(value)) throw new InputError(`${name}: hex wanted`)
  // On a buffer of its own, not in the shared pool of small buffers.
  return Uint8Array.from(Buffer.from(value, 'hex'))
}

const list = (value, name) => {
  if (!Array.isArray(value)) throw new InputError(`${name}: a list wanted`)
  return value
}

const text = (value, name) => {
  if (typeof value !== 'string') throw new InputError(`${name}: text wanted`)
  return value
}

const toHex = (bytes) => Buffer.from(bytes).toString('hex')

async function loadOperations() {
  const [
    { SecretArena, secretFrom, withSecret },
    x25519,
    ed25519,
    aead,
    kdf,
    hash,
    mlkem,
    cbor,
    keys,
    certificate,
    envelope,
    bundle,
    tree,
    checkpoint,
    note,
    ubl,
    decimal,
  ] = await Promise.all([
    import('@tallystick/secret-bytes/arena'),
    import('@tallystick/primitives/x25519'),
    import('@tallystick/primitives/ed25519'),
    import('@tallystick/primitives/aead'),
    import('@tallystick/primitives/kdf'),
    import('@tallystick/primitives/hash'),
    import('@tallystick/primitives/mlkem1024'),
    import('@tallystick/wire/cbor'),
    import('@tallystick/wire/keys'),
    import('@tallystick/wire/certificate'),
    import('@tallystick/wire/envelope'),
    import('@tallystick/wire/bundle'),
    import('@tallystick/merkle-log/tree'),
    import('@tallystick/merkle-log/checkpoint'),
    import('@tallystick/merkle-log/note'),
    import('@tallystick/ubl/check'),
    import('@tallystick/invoice-domain/decimal'),
  ])
  const arena = SecretArena.open(64 * 1024, { allowUnlocked: true })

  /** Secret inputs take the product's way: into the arena, used there, destroyed. */
  const withKey = (bytes, use) => {
    const secret = secretFrom(arena, bytes)
    try {
      const result = use(secret)
      try {
        return { out: withSecret(result, toHex) }
      } finally {
        result.destroy()
      }
    } finally {
      secret.destroy()
    }
  }
  const out = (run) => ({ run, answersOk: false })
  const ok = (run) => ({ run, answersOk: true })

  return {
    x25519: out(({ sk, pk }) => withKey(hex(sk, 'sk'), (secret) => x25519.agree(arena, secret, hex(pk, 'pk')))),
    'ed25519.verify': ok(({ pk, msg, sig }) => ({ ok: ed25519.verify(hex(pk, 'pk'), hex(msg, 'msg'), hex(sig, 'sig')) })),
    'aead.open': out(({ key, nonce, aad, ct }) => ({
      out: toHex(aead.open(hex(key, 'key'), hex(nonce, 'nonce'), hex(aad ?? '', 'aad'), hex(ct, 'ct'))),
    })),
    hkdf: out(({ ikm, salt, info, size }) => ({
      out: toHex(kdf.hkdfSha256(hex(ikm, 'ikm'), hex(salt ?? '', 'salt'), hex(info ?? '', 'info'), size)),
    })),
    hmac: out(({ key, msg }) => ({ out: toHex(kdf.hmacSha256(hex(key, 'key'), hex(msg, 'msg'))) })),
    blake3: out(({ input, key, size }) => ({
      out: toHex(
        key === undefined || key === null
          ? hash.blake3(hex(input, 'input'), size ?? 32)
          : hash.blake3Keyed(hex(key, 'key'), hex(input, 'input'), size ?? 32),
      ),
    })),
    'mlkem1024.decaps': out(({ dk, ct }) => withKey(hex(dk, 'dk'), (secret) => mlkem.decapsulate(arena, secret, hex(ct, 'ct')))),
    'cbor.roundtrip': out(({ bytes }) => ({ out: toHex(cbor.encode(cbor.decode(hex(bytes, 'bytes')))) })),
    'merkle.inclusion': ok(({ leafHash, index, size, proof, root }) => ({
      ok: tree.verifyInclusion(
        hex(leafHash, 'leafHash'),
        index,
        size,
        list(proof, 'proof').map((item) => hex(item, 'proof')),
        hex(root, 'root'),
      ),
    })),
    'merkle.consistency': ok(({ size1, size2, root1, root2, proof }) => ({
      ok: tree.verifyConsistency(
        size1,
        size2,
        hex(root1, 'root1'),
        hex(root2, 'root2'),
        list(proof, 'proof').map((item) => hex(item, 'proof')),
      ),
    })),
    'checkpoint.verify': ok((request) => {
      const { origin, size, root } = checkpoint.verifyCheckpoint(
        text(request.note, 'note'),
        list(request.keys, 'keys').map((key) => note.decodeVkey(text(key, 'keys'))),
      )
      return { ok: true, origin, size, root: toHex(root) }
    }),
    peerid: out(({ publicKey }) => ({ out: keys.peerIdFromKey(hex(publicKey, 'publicKey')) })),
    'ubl.roundtrip': out(({ xml }) => ({ xml: ubl.roundtripUbl(text(xml, 'xml')) })),
    'en16931.check': out(({ xml }) => ({ failed: ubl.checkEn16931(text(xml, 'xml')) })),
    decimal: out(({ fn, a, b, scale, mode }) => ({ out: decimal.decimalOp(fn, a, b, scale, mode) })),
    'envelope.decode': ok(({ bytes }) => {
      envelope.decodeEnvelope(hex(bytes, 'bytes'))
      return { ok: true }
    }),
    'bundle.decode': ok(({ bytes }) => {
      bundle.decodeBundle(hex(bytes, 'bytes'))
      return { ok: true }
    }),
    'certificate.decode': ok(({ bytes, now }) => {
      certificate.readCertificate(hex(bytes, 'bytes'), now ?? Date.now())
      return { ok: true }
    }),
  }
}

if (onNode24()) await main()
