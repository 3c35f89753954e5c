/** Calls owned by session-svc: identity, pinned peers, seal and open, recovery, custody, document signatures. */
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
  request: z.strictObject({
    fleetId,
    trust: peerTrust,
    /** With `verified`: the fingerprint that was compared out of band. Needed to approve a new identity of the peer. */
    fingerprint: z.string().max(200).optional(),
  }),
  response: z.discriminatedUnion('ok', [z.strictObject({ ok: z.literal(true) }), refusal]), // NotFound, Conflict, IdentityChanged
})

/** @see docs/spec/custody.md §7 */
export const recoveryState = z.enum(['ok', 'suspect', 'resync_required', 'resync_sent'])
/** What a person should know about the keys with a peer, worst first. */
export const keyState = z.enum(['identity-changed', 'rotation-blocked', 'resync', 'suspect', 'rotation-due', 'no-session', 'ok'])

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
      keyState,
      recovery: z.strictObject({
        state: recoveryState,
        /** One sentence; empty when `ok`. */
        reason: z.string().max(200),
        since: epochMs.nullable(),
      }),
      /** Superseded epochs whose state is still kept for messages in flight. */
      oldEpochs: z.int().nonnegative(),
      /** Application messages per epoch with this peer; null: the fleet's limit. */
      rotateEvery: z.int().positive().nullable(),
      /** Fingerprint of a new identity that waits for a person's approval. */
      pendingFingerprint: z.string().nullable(),
    }),
    refusal,
  ]),
})

/** `rotateEvery: 1` gives a fresh session for each document. null goes back to the fleet's limit. */
export const sessionSetPeerPolicy = contract({
  subject: 'session.v1.setPeerPolicy',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({ fleetId, rotateEvery: z.int().min(1).max(100).nullable() }),
  response: z.discriminatedUnion('ok', [z.strictObject({ ok: z.literal(true) }), refusal]),
})

/** The next message to this peer begins a new epoch. */
export const sessionRotate = contract({
  subject: 'session.v1.rotate',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({ fleetId }),
  response: z.discriminatedUnion('ok', [
    z.strictObject({ ok: z.literal(true), /** The epoch that ends; 0 when there is none yet. */ epoch: z.int().nonnegative() }),
    refusal,
  ]),
})

/** A person asks for, or approves, a session that continues nothing: for when the two sides no longer understand each other. */
export const sessionResync = contract({
  subject: 'session.v1.resync',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({ fleetId }),
  response: z.discriminatedUnion('ok', [z.strictObject({ ok: z.literal(true), state: recoveryState }), refusal]),
})

/**
 * Peers to which a control message should go now, although there is no document to send: session-svc has no way out of
 * its own. Asked every few seconds.
 */
export const sessionAttention = contract({
  subject: 'session.v1.attention',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({}),
  response: z.strictObject({
    ok: z.literal(true),
    items: z.array(z.strictObject({ fleetId, need: z.enum(['resync', 'rotation']) })).max(1_000),
  }),
})

/** Suspected compromise: new identity keys and prekeys, every session wiped. Peers have to approve the new identity. */
export const sessionRenewIdentity = contract({
  subject: 'session.v1.renewIdentity',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 20_000,
  /** Repeated with the same id: the same answer, nothing happens twice. */
  request: z.strictObject({ requestId: messageId }),
  response: z.discriminatedUnion('ok', [
    z.strictObject({
      ok: z.literal(true),
      fleetId,
      sequence: z.int().positive(),
      fingerprint: z.string(),
      sessionsWiped: z.int().nonnegative(),
      prekeysDestroyed: z.int().nonnegative(),
    }),
    refusal,
  ]),
})

/** A certificate that a peer's relay has shown on a connection that belongs to that peer. */
export const sessionOfferCertificate = contract({
  subject: 'session.v1.offerCertificate',
  owner,
  callers: ['relay-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({ fleetId, certificate: bytes(4096) }),
  response: z.discriminatedUnion('ok', [
    z.strictObject({ ok: z.literal(true), outcome: z.enum(['known', 'adopted', 'pending']) }),
    refusal, // InvalidSignature, IdentityChanged, ExpiredSignature, Serialization, SuiteBelowPolicy, UnauthorizedPeer
  ]),
})

/** How keys are kept here, for people and dashboards. Never a key. */
export const sessionCustody = contract({
  subject: 'session.v1.custody',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({}),
  response: z.discriminatedUnion('ok', [
    z.strictObject({
      ok: z.literal(true),
      provider: z.enum(['file', 'pkcs11']),
      /** Names the key-encryption key; not the key. */
      kekId: z.string().max(64),
      /** Data keys, newest first. */
      dataKeys: z
        .array(z.strictObject({ id: z.string().max(64), version: z.int().positive(), kekId: z.string().max(64), createdAt: epochMs }))
        .max(100),
      signingKey: z.enum(['sealed', 'in-token']),
      memory: z.strictObject({
        arenaBytes: z.int().nonnegative(),
        usedBytes: z.int().nonnegative(),
        /** What the kernel counts as locked for the process. */
        lockedBytes: z.int().nonnegative(),
        locked: z.boolean(),
        guardPages: z.boolean(),
        excludedFromCoreDumps: z.boolean(),
      }),
      prekeys: z.array(
        z.strictObject({
          kind: z.enum(['signed', 'last-resort', 'one-time', 'pq-one-time']),
          available: z.int().nonnegative(),
          newestAt: epochMs.nullable(),
        }),
      ),
      generation: z.strictObject({ value: z.int().nonnegative(), restoredAt: epochMs.nullable() }),
    }),
    refusal,
  ]),
})

/** Identity keys, encrypted to age recipients. Live ratchet state is never in it. */
export const sessionBackup = contract({
  subject: 'session.v1.backup',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 10_000,
  request: z.strictObject({ recipients: z.array(z.string().max(4096)).min(1).max(8) }),
  response: z.discriminatedUnion('ok', [
    z.strictObject({ ok: z.literal(true), file: bytes(262_144), fleetId, createdAt: epochMs }),
    refusal, // InvalidRequest: a recipient that age does not know; Conflict: the key lives in a token
  ]),
})

/** Seal the data keys anew under the key-encryption key that is configured as the next one. */
export const sessionRotateKek = contract({
  subject: 'session.v1.rotateKek',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 20_000,
  request: z.strictObject({}),
  response: z.discriminatedUnion('ok', [
    z.strictObject({ ok: z.literal(true), from: z.string().max(64), to: z.string().max(64), rewrapped: z.int().nonnegative() }),
    refusal, // Conflict: no next key is configured
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
      .array(
        z.strictObject({
          messageId,
          fleetId,
          class: messageClass,
          payload: bytes(MAX_PAYLOAD_BYTES),
          /**
           * The peer says that it does not have this message. Bytes of a session that is over are then replaced by an
           * encryption in the present one; those of the present session are returned as they are.
           */
          again: z.boolean().optional(),
        }),
      )
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
  sessionSetPeerPolicy,
  sessionRotate,
  sessionResync,
  sessionAttention,
  sessionRenewIdentity,
  sessionOfferCertificate,
  sessionCustody,
  sessionBackup,
  sessionRotateKek,
  sessionTakeBundle,
  sessionSeal,
  sessionOpen,
  sessionAcknowledge,
  sessionSignDocument,
]
