/** Calls owned by session-svc: identity, pinned peers, seal and open, document signatures. */
import { z } from 'zod'
import {
  bytes,
  contract,
  epochMs,
  fleetId,
  fixedBytes,
  MAX_BATCH,
  MAX_ENVELOPE_BYTES,
  MAX_PAYLOAD_BYTES,
  messageId,
  peerIdText,
} from './call.js'
import { refusal } from './codes.js'

const owner = 'session-svc' as const

/** This fleet's own certificate. Refused with NotReady until relay and audit have given their public keys once. */
export const sessionFleet = contract({
  subject: 'session.v1.fleet',
  owner,
  callers: ['invoice-svc', 'relay-svc', 'audit-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({}),
  response: z.discriminatedUnion('ok', [
    z.strictObject({
      ok: z.literal(true),
      fleetId,
      displayName: z.string(),
      certificate: bytes(4096),
      peerIds: z.array(peerIdText),
      fingerprint: z.string(),
    }),
    refusal,
  ]),
})

/** Pin a peer by its certificate (signature already checked here again). Same certificate again: same answer. */
export const sessionPinPeer = contract({
  subject: 'session.v1.pinPeer',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({ certificate: bytes(4096) }),
  response: z.discriminatedUnion('ok', [
    z.strictObject({
      ok: z.literal(true),
      fleetId,
      displayName: z.string(),
      peerIds: z.array(peerIdText),
      fingerprint: z.string(),
      certificateDigest: fixedBytes(32),
      sequence: z.int().nonnegative(),
    }),
    refusal, // InvalidSignature, IdentityChanged, ExpiredSignature, Serialization
  ]),
})

export const peerTrust = z.enum(['pinned', 'verified', 'blocked', 'removed'])

export const sessionSetPeerTrust = contract({
  subject: 'session.v1.setPeerTrust',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({ fleetId, trust: peerTrust }),
  response: z.discriminatedUnion('ok', [z.strictObject({ ok: z.literal(true) }), refusal]),
})

export const sessionPeer = contract({
  subject: 'session.v1.peer',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({ fleetId }),
  response: z.discriminatedUnion('ok', [
    z.strictObject({
      ok: z.literal(true),
      fleetId,
      trust: peerTrust,
      certificateDigest: fixedBytes(32),
      certificate: bytes(4096),
      session: z
        .strictObject({
          epoch: z.int().nonnegative(),
          startedAt: epochMs,
          ageMs: z.int().nonnegative(),
          sent: z.int().nonnegative(),
          messagesLeft: z.int(),
          confirmed: z.boolean(),
        })
        .nullable(),
    }),
    refusal,
  ]),
})

/** A prekey bundle of this fleet for a pinned peer's relay; hands out each one-time prekey at most once. */
export const sessionTakeBundle = contract({
  subject: 'session.v1.takeBundle',
  owner,
  callers: ['relay-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({ forFleetId: fleetId }),
  response: z.discriminatedUnion('ok', [z.strictObject({ ok: z.literal(true), bundle: bytes(16_384) }), refusal]),
})

export const messageClass = z.enum(['application', 'control'])

/** Encrypt. Idempotent by messageId: a retry returns the stored bytes and burns no key. */
export const sessionSeal = contract({
  subject: 'session.v1.seal',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 20_000,
  request: z.strictObject({
    items: z
      .array(z.strictObject({ messageId, fleetId, class: messageClass, payload: bytes(MAX_PAYLOAD_BYTES) }))
      .min(1)
      .max(MAX_BATCH),
  }),
  response: z.strictObject({
    items: z.array(
      z.discriminatedUnion('ok', [
        z.strictObject({ ok: z.literal(true), messageId, envelope: bytes(MAX_ENVELOPE_BYTES), epoch: z.int().nonnegative() }),
        refusal.extend({ messageId }), // Network (no bundle could be had), PeerBlocked, NotFound, ...
      ]),
    ),
  }),
})

/** Decrypt. Idempotent by envelope until acknowledged; afterwards the answer is DuplicateMessage with the message id. */
export const sessionOpen = contract({
  subject: 'session.v1.open',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 20_000,
  request: z.strictObject({
    items: z
      .array(z.strictObject({ fleetId, envelopeDigest: fixedBytes(32), envelope: bytes(MAX_ENVELOPE_BYTES) }))
      .min(1)
      .max(MAX_BATCH),
  }),
  response: z.strictObject({
    items: z.array(
      z.discriminatedUnion('ok', [
        z.strictObject({
          ok: z.literal(true),
          envelopeDigest: fixedBytes(32),
          payload: bytes(MAX_PAYLOAD_BYTES),
          epoch: z.int().nonnegative(),
        }),
        refusal.extend({ envelopeDigest: fixedBytes(32) }), // Decryption, VerificationFailed, DuplicateMessage, TooManySkipped, UnauthorizedPeer, ...
      ]),
    ),
  }),
})

/** The caller has stored what `open` gave: the kept plaintext is destroyed, the digest stays for replay detection. */
export const sessionAcknowledge = contract({
  subject: 'session.v1.acknowledge',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({ envelopeDigests: z.array(fixedBytes(32)).min(1).max(MAX_BATCH) }),
  response: z.strictObject({ ok: z.literal(true) }),
})

/** Sign a document statement with IK_sign. session-svc builds the signed bytes; the caller names what is signed. */
export const sessionSignDocument = contract({
  subject: 'session.v1.signDocument',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({
    /** @see docs/spec/documents.md §3 */
    kind: z.enum(['invoice', 'credit-note', 'quote', 'payment-request', 'receipt', 'verdict']),
    documentId: messageId,
    contentDigest: fixedBytes(32),
    /** null: a document frozen before its recipient is known; a share adds its own audience-bound statement. */
    audience: fleetId.nullable(),
    issuedAt: epochMs,
    expiresAt: epochMs,
  }),
  response: z.discriminatedUnion('ok', [z.strictObject({ ok: z.literal(true), statement: bytes(2048) }), refusal]),
})

export const SESSION_CONTRACTS = [
  sessionFleet,
  sessionPinPeer,
  sessionSetPeerTrust,
  sessionPeer,
  sessionTakeBundle,
  sessionSeal,
  sessionOpen,
  sessionAcknowledge,
  sessionSignDocument,
]
