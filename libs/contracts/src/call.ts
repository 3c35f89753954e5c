/** The shape of one inter-service call: a subject, a deadline, and a schema for each direction. */
import { z } from 'zod'

export type ServiceName = 'invoice-svc' | 'session-svc' | 'relay-svc' | 'audit-svc'
export const SERVICE_NAMES: readonly ServiceName[] = ['invoice-svc', 'session-svc', 'relay-svc', 'audit-svc']

export interface Contract<Req extends z.ZodType = z.ZodType, Res extends z.ZodType = z.ZodType> {
  /** `<owner>.v<major>.<verb>`; the owner is the only service that may subscribe to it. */
  readonly subject: string
  readonly owner: ServiceName
  /** The only services that may publish to it; NATS permissions are generated from this list. */
  readonly callers: readonly ServiceName[]
  /** Deadline of one call, milliseconds. */
  readonly timeoutMs: number
  readonly request: Req
  readonly response: Res
}

export function contract<Req extends z.ZodType, Res extends z.ZodType>(c: Contract<Req, Res>): Contract<Req, Res> {
  return Object.freeze(c)
}

export type RequestOf<C extends Contract> = z.output<C['request']>
export type ResponseOf<C extends Contract> = z.output<C['response']>

/** Bytes travel as CBOR byte strings, never as JSON. What is sent may lie in any buffer; what arrives has one of its own. */
type Bytes = z.ZodType<Uint8Array<ArrayBuffer>, Uint8Array>
export const bytes = (max: number): Bytes =>
  z.instanceof(Uint8Array).refine((b) => b.length <= max, { error: `at most ${max} bytes` }) as unknown as Bytes
export const fixedBytes = (n: number): Bytes =>
  z.instanceof(Uint8Array).refine((b) => b.length === n, { error: `exactly ${n} bytes` }) as unknown as Bytes

/** `tsf1` + base32 of a 32-byte digest of IK_sign. @see docs/spec/identity.md §1 */
export const fleetId = z.string().regex(/^tsf1[a-z2-7]{52}$/, { error: 'not a fleet id' })
/** UUIDv7, lower case. */
export const messageId = z.uuid()
/** libp2p PeerId in text form (base58btc of an identity multihash of an Ed25519 key). */
export const peerIdText = z.string().regex(/^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/, { error: 'not an Ed25519 PeerId' })
/** Milliseconds since 1970-01-01T00:00:00Z. */
export const epochMs = z.int().nonnegative()
export const multiaddrText = z.string().max(300)

/** A document with attachments reaches 4 MiB; envelope overhead and padding stay below 64 KiB. */
export const MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
export const MAX_ENVELOPE_BYTES = MAX_PAYLOAD_BYTES + 64 * 1024
/** Largest NATS message: one envelope plus framing. `max_payload` of the server is set to this. */
export const MAX_BUS_BYTES = 8 * 1024 * 1024
/** Items of one batched call. Callers also keep the sum of bytes under MAX_BUS_BYTES. */
export const MAX_BATCH = 64
