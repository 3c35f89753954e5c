/** Calls owned by audit-svc: append through the outbox, proofs and checkpoints for the API. */
import { z } from 'zod'
import { bytes, contract, fixedBytes, messageId } from './call.js'
import { auditEvent, auditStream } from './audit-events.js'
import { refusal } from './codes.js'

const owner = 'audit-svc' as const

export const auditIdentity = contract({
  subject: 'audit.v1.identity',
  owner,
  callers: ['session-svc', 'invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({}),
  /** `publicKey` Ed25519, 32 bytes: enters the fleet certificate. The log's origin is `tallystick/<fleet id>` and its vkey follows from both. */
  response: z.strictObject({ ok: z.literal(true), publicKey: fixedBytes(32) }),
})

/** Append in the order given. Idempotent by eventId: a repeated event gets its first index. */
export const auditAppend = contract({
  subject: 'audit.v1.append',
  owner,
  callers: ['invoice-svc', 'session-svc', 'relay-svc', 'audit-svc'],
  timeoutMs: 10_000,
  request: z.strictObject({ events: z.array(auditEvent).min(1).max(256) }),
  response: z.discriminatedUnion('ok', [
    z.strictObject({ ok: z.literal(true), items: z.array(z.strictObject({ eventId: messageId, index: z.int().nonnegative() })) }),
    refusal,
  ]),
})

/** The newest signed checkpoint (C2SP signed note, UTF-8). */
export const auditCheckpoint = contract({
  subject: 'audit.v1.checkpoint',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({}),
  response: z.discriminatedUnion('ok', [
    z.strictObject({ ok: z.literal(true), note: z.string(), size: z.int().nonnegative(), rootHash: fixedBytes(32), vkey: z.string() }),
    refusal,
  ]),
})

/** Leaf bytes, inclusion proof and the checkpoint that the proof is for. NotFound until the event is under a checkpoint. */
export const auditInclusion = contract({
  subject: 'audit.v1.inclusion',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({ eventId: messageId }),
  response: z.discriminatedUnion('ok', [
    z.strictObject({
      ok: z.literal(true),
      leaf: bytes(4096),
      index: z.int().nonnegative(),
      size: z.int().nonnegative(),
      proof: z.array(fixedBytes(32)).max(64),
      note: z.string(),
      vkey: z.string(),
    }),
    refusal,
  ]),
})

export const auditConsistency = contract({
  subject: 'audit.v1.consistency',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({ from: z.int().nonnegative(), to: z.int().nonnegative() }),
  response: z.discriminatedUnion('ok', [
    z.strictObject({ ok: z.literal(true), proof: z.array(fixedBytes(32)).max(64), fromRoot: fixedBytes(32), toRoot: fixedBytes(32) }),
    refusal,
  ]),
})

export const auditEvents = contract({
  subject: 'audit.v1.events',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({ after: z.int().min(-1), limit: z.int().min(1).max(256), stream: auditStream.optional() }),
  response: z.strictObject({
    ok: z.literal(true),
    items: z.array(z.strictObject({ index: z.int().nonnegative(), leafHash: fixedBytes(32), event: auditEvent })),
  }),
})

/** C2SP tlog-tiles: `tile/<L>/<N>[.p/<W>]` (hash tiles) and `tile/entries/<N>[.p/<W>]` (data tiles), raw bytes. */
export const auditTile = contract({
  subject: 'audit.v1.tile',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({ path: z.string().max(128) }),
  response: z.discriminatedUnion('ok', [z.strictObject({ ok: z.literal(true), bytes: bytes(2 * 1024 * 1024) }), refusal]),
})

export const AUDIT_CONTRACTS = [auditIdentity, auditAppend, auditCheckpoint, auditInclusion, auditConsistency, auditEvents, auditTile]
