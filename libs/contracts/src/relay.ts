/** Calls owned by relay-svc: its node's identity, the allow-list, bundles of peers, the outbound queue. */
import { z } from 'zod'
import {
  bytes,
  contract,
  epochMs,
  fixedBytes,
  fleetId,
  MAX_BATCH,
  MAX_ENVELOPE_BYTES,
  messageId,
  multiaddrText,
  peerIdText,
} from './call.js'
import { refusal } from './codes.js'

const owner = 'relay-svc' as const

export const relayIdentity = contract({
  subject: 'relay.v1.identity',
  owner,
  callers: ['session-svc', 'invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({}),
  response: z.strictObject({ ok: z.literal(true), peerId: peerIdText, multiaddrs: z.array(multiaddrText) }),
})

/** Replace what the relay knows of a peer. Only `allowed` peers may open a stream or be dialled. */
export const relaySetPeer = contract({
  subject: 'relay.v1.setPeer',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({
    fleetId,
    peerIds: z.array(peerIdText).min(1).max(8),
    multiaddrs: z.array(multiaddrText).max(16),
    state: z.enum(['allowed', 'blocked', 'removed']),
  }),
  response: z.discriminatedUnion('ok', [z.strictObject({ ok: z.literal(true) }), refusal]),
})

export const relayPeer = contract({
  subject: 'relay.v1.peer',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 5_000,
  request: z.strictObject({ fleetId }),
  response: z.discriminatedUnion('ok', [
    z.strictObject({
      ok: z.literal(true),
      connected: z.boolean(),
      transport: z.string().nullable(),
      queued: z.int().nonnegative(),
      lastError: z.string().nullable(),
      nextAttemptAt: epochMs.nullable(),
    }),
    refusal,
  ]),
})

/** Ask a pinned peer for one of its prekey bundles, over the authenticated connection. */
export const relayFetchBundle = contract({
  subject: 'relay.v1.fetchBundle',
  owner,
  callers: ['session-svc'],
  timeoutMs: 12_000,
  request: z.strictObject({ fleetId }),
  response: z.discriminatedUnion('ok', [z.strictObject({ ok: z.literal(true), bundle: bytes(16_384) }), refusal]),
})

/** Store for delivery. Idempotent by messageId; ok means durable in the outbound queue, not sent. */
export const relaySend = contract({
  subject: 'relay.v1.send',
  owner,
  callers: ['invoice-svc'],
  timeoutMs: 10_000,
  request: z.strictObject({
    items: z
      .array(z.strictObject({ messageId, fleetId, envelope: bytes(MAX_ENVELOPE_BYTES) }))
      .min(1)
      .max(MAX_BATCH),
  }),
  response: z.strictObject({
    items: z.array(
      z.discriminatedUnion('ok', [
        z.strictObject({ ok: z.literal(true), messageId, envelopeDigest: fixedBytes(32) }),
        refusal.extend({ messageId }), // UnauthorizedPeer, QuotaExceeded
      ]),
    ),
  }),
})

export const RELAY_CONTRACTS = [relayIdentity, relaySetPeer, relayPeer, relayFetchBundle, relaySend]
