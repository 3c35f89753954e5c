/**
 * The product's ratchet behind a pipe, for conversations with the implementation in Go: a line of JSON in, a line out.
 * Bytes are hex; a refusal is `{ error: code }`. Sessions are named by epoch.
 */
import { createInterface } from 'node:readline'
import { fromHex, toHex } from '@tallystick/primitives/bytes'
import { generateSigningKey, sign } from '@tallystick/primitives/ed25519'
import { sha256 } from '@tallystick/primitives/hash'
import { generateKeyPair as kemKeyPair } from '@tallystick/primitives/mlkem1024'
import { systemRandom } from '@tallystick/primitives/random'
import { generateKeyPair } from '@tallystick/primitives/x25519'
import { decrypt, encrypt, exporter, exporterByName } from '@tallystick/ratchet/double-ratchet'
import { pqMessage, spkMessage } from '@tallystick/ratchet/labels'
import { initiate, respond } from '@tallystick/ratchet/pqxdh'
import { SecretArena, type SecretBytes } from '@tallystick/secret-bytes/arena'
import { decodeBundle, encodeBundle } from '@tallystick/wire/bundle'
import { decodeEnvelope, decodeHandshake, encodeHandshake, type Handshake } from '@tallystick/wire/envelope'

interface Request {
  op: 'identity' | 'initiate' | 'respond' | 'encrypt' | 'decrypt'
  epoch: number
  reset: boolean
  kind: 'one-time' | 'last-resort'
  opk: boolean
  bundle: string
  handshake: string
  plaintext: string
  envelope: string
  now: number
  peer: { signKey: string; dhPublic: string; certificateDigest: string; peerId: string; fleetId: string }
}

const arena = SecretArena.open(2 * 1024 * 1024, { allowUnlocked: true })
const random = systemRandom
const signing = generateSigningKey(arena)
const [dh, spk, opk] = [generateKeyPair(arena), generateKeyPair(arena), generateKeyPair(arena)]
const pq = kemKeyPair(arena)
const certificate = sha256(signing.publicKey)
const self = { dhSecret: dh.secret, dhPublic: dh.publicKey, certificateDigest: sha256(certificate), peerId: 'peer-product', fleetId: 'fleet-product' }
const ids = { spk: 70_000, pq: 4_294_967_295, opk: 23 }
const sessions = new Map<number, { state: SecretBytes; handshake?: Handshake }>()

function advance(epoch: number, state: SecretBytes): void {
  const session = sessions.get(epoch)!
  session.state.destroy()
  session.state = state
}

function answer(request: Request): object {
  const { epoch } = request
  const before = sessions.get(epoch - 1)
  const peer = request.peer && { signKey: fromHex(request.peer.signKey), dhPublic: fromHex(request.peer.dhPublic), certificateDigest: fromHex(request.peer.certificateDigest), peerId: request.peer.peerId, fleetId: request.peer.fleetId }
  switch (request.op) {
    case 'identity': {
      const bundle = {
        certificate,
        spk: { id: ids.spk, key: spk.publicKey, signature: sign(signing.secret, spkMessage(ids.spk, spk.publicKey)) },
        pq: { id: ids.pq, key: pq.publicKey, signature: sign(signing.secret, pqMessage(request.kind, ids.pq, pq.publicKey)), kind: request.kind },
        ...(request.opk ? { opk: { id: ids.opk, key: opk.publicKey } } : {}),
      }
      return { signKey: toHex(signing.publicKey), dhPublic: toHex(dh.publicKey), certificateDigest: toHex(self.certificateDigest), peerId: self.peerId, fleetId: self.fleetId, bundle: toHex(encodeBundle(bundle)) }
    }
    case 'initiate': {
      const salt = request.reset || !before ? undefined : exporter(before.state, arena)
      const { state, handshake } = initiate({ arena, random, self, peer, bundle: decodeBundle(fromHex(request.bundle)), epoch, reset: request.reset, ...(salt ? { salt } : {}) })
      sessions.set(epoch, { state, handshake })
      salt?.destroy()
      return { handshake: toHex(encodeHandshake(handshake)) }
    }
    case 'respond': {
      const handshake = decodeHandshake(fromHex(request.handshake))
      const salt = before && handshake.continuity && exporterByName(before.state, arena, handshake.continuity)
      const prekeys = { spk: spk.secret, spkPublic: spk.publicKey, pq: pq.secret, pqPublic: pq.publicKey, ...(handshake.opkId === undefined ? {} : { opk: opk.secret }) }
      sessions.set(epoch, { state: respond({ arena, self, peer, handshake, prekeys, epoch, ...(salt ? { salt } : {}) }).state })
      salt?.destroy()
      return {}
    }
    case 'encrypt': {
      const { state, handshake } = sessions.get(epoch)!
      const made = encrypt({ arena, random, state, plaintext: fromHex(request.plaintext), ...(handshake ? { handshake } : {}) })
      advance(epoch, made.state)
      return { envelope: toHex(made.envelope) }
    }
    case 'decrypt': {
      const opened = decrypt({ arena, state: sessions.get(epoch)!.state, envelope: decodeEnvelope(fromHex(request.envelope)), now: request.now })
      advance(epoch, opened.state)
      return { plaintext: toHex(opened.plaintext) }
    }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  let result: object
  try {
    result = answer(JSON.parse(line) as Request)
  } catch (error) {
    const code = (error as { code?: unknown }).code
    result = { error: typeof code === 'string' ? code : String(error) }
  }
  process.stdout.write(`${JSON.stringify(result)}\n`)
}
arena.close()
