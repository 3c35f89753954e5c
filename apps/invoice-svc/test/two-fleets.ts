/**
 * Two invoice services joined by stand-ins for the other three: session-svc that "seals" by remembering, a relay that
 * delivers when told to, an audit log that is a Merkle tree in memory. Signatures, certificates, payloads and proofs
 * are the real ones. What only the real services can show is shown end to end, elsewhere.
 */
import { createHash, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto'
import type { Contract, RequestOf, ResponseOf } from '@tallystick/contracts/call'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { signCheckpoint } from '@tallystick/merkle-log/checkpoint'
import { verifierKey, encodeVkey } from '@tallystick/merkle-log/note'
import { inclusionRanges, leafHash, nodeHash, rangeHash, type NodeId } from '@tallystick/merkle-log/tree'
import { encode } from '@tallystick/wire/cbor'
import { certificateDigest, fleetIdOf, issueCertificate, logOrigin, peerIdFromKey } from '@tallystick/wire/certificate'
import { assembleStatement, encodeStatementPayload } from '@tallystick/wire/document'
import type { AuditEvent } from '@tallystick/contracts/audit-events'
import type { RequestInput } from './rpc-types.ts'
import type { Rpc } from '../src/app.js'
import { deliver } from '../src/inbound/deliver.js'
import { recordProgress } from '../src/messages/relay-progress.js'
import type { Service } from './harness.ts'

interface KeyPair {
  readonly secret: KeyObject
  readonly publicKey: Uint8Array
}

function keyPair(): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  return { secret: privateKey, publicKey: new Uint8Array(Buffer.from(publicKey.export({ format: 'jwk' }).x!, 'base64url')) }
}

const digestOf = (bytes: Uint8Array) => new Uint8Array(createHash('sha256').update(bytes).digest())
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** Plaintexts by envelope digest: what only the two sessions know. */
const sealed = new Map<string, Uint8Array>()

export function sealedPayload(envelope: Uint8Array): Uint8Array {
  return sealed.get(hex(digestOf(envelope)))!
}

export function sealForTest(payload: Uint8Array): Uint8Array {
  const envelope = new Uint8Array(randomBytes(64))
  sealed.set(hex(digestOf(envelope)), payload)
  return envelope
}

export class StandInFleet {
  readonly signing = keyPair()
  readonly log = keyPair()
  readonly fleetId = fleetIdOf(this.signing.publicKey)
  readonly peerId = peerIdFromKey(keyPair().publicKey)
  readonly certificate: Uint8Array
  readonly address: string
  /** What the relay has taken and has not delivered, and every message that it ever took: each id once. */
  readonly queue: Array<{ messageId: string; fleetId: string; envelope: Uint8Array }> = []
  readonly sent: Array<{ messageId: string; fleetId: string; envelope: Uint8Array }> = []
  readonly events: AuditEvent[] = []
  readonly calls: string[] = []
  /** Subjects that nobody answers. */
  readonly away = new Set<string>()
  /** Changes an opened payload, as an attacker with the session would. */
  tamper: ((payload: Uint8Array) => Uint8Array) | undefined
  /** What was sealed belongs to sessions that are over: sent again it is sealed anew. */
  sessionsOver = false
  /** What session-svc says to every envelope while a person has to decide. */
  undecided: 'ResyncRequired' | 'IdentityChanged' | undefined
  /** Messages that session-svc will never seal. */
  readonly finalRefusals = new Set<string>()
  /** Envelopes that this fleet's relay has stored: again they are acknowledged, and go no further. */
  readonly arrived = new Set<string>()
  /** Peers that session-svc wants a message for. */
  attention: Array<{ fleetId: string; need: 'resync' | 'rotation' }> = []
  /** The log is under a checkpoint up to here. */
  checkpoints = true
  readonly #envelopes = new Map<string, Uint8Array>()
  readonly #acknowledged = new Set<string>()
  readonly #kept: string[] = []

  constructor(readonly name: string) {
    const now = Date.now()
    this.certificate = issueCertificate(
      {
        displayName: name,
        signKey: this.signing.publicKey,
        dhKey: new Uint8Array(32).fill(9),
        peerIds: [this.peerId],
        logKey: this.log.publicKey,
        suites: ['TS1'],
        notBefore: now - 1000,
        notAfter: now + 365 * 86_400_000,
        sequence: 1,
      },
      (message) => new Uint8Array(sign(null, message, this.signing.secret)),
    )
    this.address = `/ip4/127.0.0.1/tcp/4001/p2p/${this.peerId}`
  }

  get rpc(): Rpc {
    return {
      call: async <C extends Contract>(contract: C, input: RequestInput<C>): Promise<ResponseOf<C>> => {
        this.calls.push(contract.subject)
        if (this.away.has(contract.subject) || this.away.has(contract.subject.split('.')[0]!))
          throw new RpcFault('Network', contract.subject, 'nobody listens', { origin: 'transport' })
        return contract.response.parse(await this.#answer(contract.subject, contract.request.parse(input))) as ResponseOf<C>
      },
      circuits: () => [],
    }
  }

  /** As session-svc and the relay stand after their databases were put back. */
  forget(messageId: string): void {
    this.#envelopes.delete(messageId)
    this.sent.splice(
      this.sent.findIndex((item) => item.messageId === messageId),
      1,
    )
  }

  /** Plaintexts that session-svc still keeps because nobody acknowledged them. */
  get unacknowledged(): number {
    return this.#kept.filter((digest) => !this.#acknowledged.has(digest)).length
  }

  #answer(subject: string, request: unknown): unknown {
    const handlers: Record<string, (request: never) => unknown> = {
      'session.v1.fleet': () => ({
        ok: true,
        fleetId: this.fleetId,
        displayName: this.name,
        certificate: this.certificate,
        peerIds: [this.peerId],
        fingerprint: '00000 '.repeat(12).trim(),
      }),
      'session.v1.pinPeer': ({ certificate }: { certificate: Uint8Array }) => ({
        ok: true,
        fleetId: this.fleetId,
        displayName: 'peer',
        peerIds: [this.peerId],
        fingerprint: 'x',
        certificateDigest: certificateDigest(certificate),
        sequence: 1,
      }),
      'session.v1.setPeerTrust': () => ({ ok: true }),
      'session.v1.peer': () => ({ ok: false, code: 'NotFound', message: 'no session' }),
      'session.v1.attention': () => ({ ok: true, items: this.attention }),
      'session.v1.signDocument': (r: RequestOf<typeof import('@tallystick/contracts/session').sessionSignDocument>) => {
        const payload = encodeStatementPayload({ ...r, signer: this.fleetId, nonce: new Uint8Array(randomBytes(32)) })
        return { ok: true, statement: assembleStatement(payload, new Uint8Array(sign(null, payload, this.signing.secret))) }
      },
      'session.v1.seal': ({ items }: { items: Array<{ messageId: string; payload: Uint8Array; again?: boolean | undefined }> }) => ({
        items: items.map((item) => this.#seal(item)),
      }),
      'session.v1.open': ({ items }: { items: Array<{ envelopeDigest: Uint8Array }> }) => ({
        items: items.map((item) => this.#open(item)),
      }),
      'session.v1.acknowledge': ({ envelopeDigests }: { envelopeDigests: Uint8Array[] }) => {
        for (const digest of envelopeDigests) this.#acknowledged.add(hex(digest))
        return { ok: true }
      },
      'relay.v1.identity': () => ({ ok: true, peerId: this.peerId, multiaddrs: [this.address] }),
      'relay.v1.setPeer': () => ({ ok: true }),
      'relay.v1.peer': () => ({ ok: true, connected: true, transport: 'tcp', queued: 0, lastError: null, nextAttemptAt: null }),
      'relay.v1.send': ({ items }: { items: Array<{ messageId: string; fleetId: string; envelope: Uint8Array }> }) => ({
        items: items.map((item) => this.#send(item)),
      }),
      'audit.v1.append': ({ events }: { events: AuditEvent[] }) => {
        for (const event of events) if (!this.events.some((known) => known.eventId === event.eventId)) this.events.push(event)
        return {
          ok: true,
          items: events.map((event) => ({
            eventId: event.eventId,
            index: this.events.findIndex((known) => known.eventId === event.eventId),
          })),
        }
      },
      'audit.v1.inclusion': ({ eventId }: { eventId: string }) => this.#inclusion(eventId),
    }
    const handler = handlers[subject]
    if (handler === undefined) throw new Error(`the stand-in does not answer ${subject}`)
    return handler(request as never)
  }

  /** Idempotent by message id, settled or not, as the real one: what it took once does not travel again. */
  #send(item: { messageId: string; fleetId: string; envelope: Uint8Array }) {
    const { messageId, fleetId, envelope } = item
    const known = this.sent.find((row) => row.messageId === messageId)
    if (known !== undefined && (known.fleetId !== fleetId || !Buffer.from(known.envelope).equals(envelope)))
      return { ok: false, messageId, code: 'Conflict', message: 'another envelope is stored under this message id' }
    if (known === undefined) {
      this.queue.push(item)
      this.sent.push(item)
    }
    return { ok: true, messageId, envelopeDigest: digestOf(envelope) }
  }

  #seal({ messageId, payload, again }: { messageId: string; payload: Uint8Array; again?: boolean | undefined }) {
    let envelope = this.#envelopes.get(messageId)
    if (this.finalRefusals.has(messageId)) return { ok: false, messageId, code: 'EndpointTooLarge', message: 'too large for the test' }
    if (envelope === undefined || (again === true && this.sessionsOver)) {
      envelope = new Uint8Array(randomBytes(64))
      this.#envelopes.set(messageId, envelope)
      sealed.set(hex(digestOf(envelope)), payload)
    }
    return { ok: true, messageId, envelope, epoch: 0 }
  }

  #open({ envelopeDigest }: { envelopeDigest: Uint8Array }) {
    const key = hex(envelopeDigest)
    if (this.undecided) return { ok: false, envelopeDigest, code: this.undecided, message: 'waits for a person', retryAfterMs: 5_000 }
    const payload = sealed.get(key)
    if (payload === undefined) return { ok: false, envelopeDigest, code: 'Decryption', message: 'cannot be opened' }
    if (this.#acknowledged.has(key)) return { ok: false, envelopeDigest, code: 'DuplicateMessage', message: 'seen' }
    this.#kept.push(key)
    return { ok: true, envelopeDigest, payload: this.tamper?.(payload) ?? payload, epoch: 0 }
  }

  #inclusion(eventId: string) {
    const index = this.events.findIndex((event) => event.eventId === eventId)
    if (index < 0 || !this.checkpoints) return { ok: false, code: 'NotFound', message: 'not under a checkpoint yet' }
    const leaves = this.events.map((event) => encode(JSON.parse(JSON.stringify(event)) as never))
    const hashes = leaves.map(leafHash)
    const hashOf = ({ level, index: i }: NodeId): Uint8Array =>
      level === 0 ? hashes[i]! : nodeHash(hashOf({ level: level - 1, index: 2 * i }), hashOf({ level: level - 1, index: 2 * i + 1 }))
    const size = leaves.length
    const proof = inclusionRanges(index, size).map((range) => rangeHash(range, hashOf))
    const key = verifierKey(logOrigin(this.fleetId), this.log.publicKey)
    const note = signCheckpoint(
      { origin: key.name, size, root: rangeHash({ begin: 0, end: size }, hashOf), extensions: [] },
      key,
      (message) => new Uint8Array(sign(null, message, this.log.secret)),
    )
    return { ok: true, leaf: leaves[index]!, index, size, proof, note, vkey: encodeVkey(key) }
  }
}

/** Carry everything that waits from one relay to the other fleet, and report back. @returns the answers */
export async function carry(from: { fleet: StandInFleet; service: Service }, to: { fleet: StandInFleet; service: Service }) {
  const items = from.fleet.queue.splice(0)
  if (items.length === 0) return []
  const answers = await deliver(
    to.service.app,
    items.map((item) => ({
      fleetId: from.fleet.fleetId,
      envelopeDigest: digestOf(item.envelope),
      envelope: new Uint8Array(item.envelope),
      receivedAt: Date.now(),
    })),
  )
  const stored = items.map((item) => ({
    state: 'stored' as const,
    messageId: item.messageId,
    at: Date.now(),
    hopReceipt: new Uint8Array(randomBytes(64)),
  }))
  await recordProgress(from.service.app, stored)
  for (const [n, answer] of answers.entries()) if (answer.outcome === 'retry') from.fleet.queue.push(items[n]!)
  return answers
}

export async function replay(item: { envelope: Uint8Array }, from: StandInFleet, to: Pick<Service, 'app'>) {
  return await deliver(to.app, [
    { fleetId: from.fleetId, envelopeDigest: digestOf(item.envelope), envelope: new Uint8Array(item.envelope), receivedAt: Date.now() },
  ])
}
