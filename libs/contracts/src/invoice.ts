/** Calls owned by invoice-svc, made by relay-svc: an envelope has come in; a sent one has moved on. */
import { z } from 'zod'
import { bytes, contract, epochMs, fixedBytes, fleetId, MAX_BATCH, MAX_ENVELOPE_BYTES, messageId } from './call.js'
import { errorCode, refusal } from './codes.js'

const owner = 'invoice-svc' as const

/**
 * Ciphertext only. `ok` and a refusal are both final and stop redelivery (a refused envelope is quarantined);
 * `retry` keeps it in the inbound queue (session-svc is down, for one).
 */
export const invoiceDeliver = contract({
  subject: 'invoice.v1.deliver',
  owner,
  callers: ['relay-svc'],
  timeoutMs: 30_000,
  request: z.strictObject({
    items: z
      .array(z.strictObject({ fleetId, envelopeDigest: fixedBytes(32), envelope: bytes(MAX_ENVELOPE_BYTES), receivedAt: epochMs }))
      .min(1)
      .max(MAX_BATCH),
  }),
  response: z.strictObject({
    items: z.array(
      z.discriminatedUnion('outcome', [
        z.strictObject({ outcome: z.literal('taken'), envelopeDigest: fixedBytes(32) }),
        z.strictObject({ outcome: z.literal('refused'), envelopeDigest: fixedBytes(32), code: errorCode }),
        z.strictObject({ outcome: z.literal('retry'), envelopeDigest: fixedBytes(32), code: errorCode }),
      ]),
    ),
  }),
})

/** How an outbound message fares. `stored` and `refused` are reported until acknowledged; `waiting` is best effort. */
export const invoiceRelayProgress = contract({
  subject: 'invoice.v1.relayProgress',
  owner,
  callers: ['relay-svc'],
  timeoutMs: 10_000,
  request: z.strictObject({
    items: z
      .array(
        z.discriminatedUnion('state', [
          z.strictObject({
            state: z.literal('waiting'),
            messageId,
            at: epochMs,
            code: errorCode,
            cause: z.string().max(300),
            attempts: z.int().nonnegative(),
            nextAttemptAt: epochMs,
          }),
          z.strictObject({ state: z.literal('stored'), messageId, at: epochMs, hopReceipt: bytes(512) }),
          z.strictObject({ state: z.literal('refused'), messageId, at: epochMs, code: errorCode, cause: z.string().max(300) }),
        ]),
      )
      .min(1)
      .max(MAX_BATCH),
  }),
  response: z.discriminatedUnion('ok', [z.strictObject({ ok: z.literal(true) }), refusal]),
})

export const INVOICE_CONTRACTS = [invoiceDeliver, invoiceRelayProgress]
