/**
 * Audit events: a closed schema per type. No document content, no amount, no name: ids, codes and counts only.
 * @see docs/spec/audit-log.md §2
 */
import { z } from 'zod'
import { fleetId, messageId } from './call.js'
import { errorCode } from './codes.js'

/** `security` is mandatory; `sharing` is written only under a consent of purpose "log" for that counterparty. */
export const auditStream = z.enum(['security', 'sharing'])
export type AuditStream = z.infer<typeof auditStream>

const hex32 = z.string().regex(/^[0-9a-f]{64}$/)
const count = z.int().nonnegative()
const documentKind = z.enum(['invoice', 'credit-note', 'quote', 'payment-request', 'receipt', 'verdict'])

/**
 * `commitment` = SHA-256(salt ‖ content digest) in hex: the 32-byte salt stays in invoice-svc, so that the log
 * proves a document without disclosing an equality or a content. The opening travels in evidence files.
 */
const shared = z.strictObject({ peer: fleetId, messageId, kind: documentKind, commitment: hex32 })

export const AUDIT_EVENT_BODIES = {
  SessionCreated: z.strictObject({ peer: fleetId, epoch: count, role: z.enum(['initiator', 'responder']), suite: z.string().max(16) }),
  SessionRotated: z.strictObject({ peer: fleetId, epoch: count, reason: z.enum(['messages', 'age', 'manual', 'peer', 'resync']) }),
  KeyStored: z.strictObject({
    keyKind: z.enum(['identity', 'agreement', 'signed-prekey', 'last-resort-prekey', 'one-time-prekeys', 'transport', 'log']),
    count,
  }),
  KeyAccessed: z.strictObject({
    keyKind: z.enum(['identity', 'agreement']),
    purpose: z.enum(['certificate', 'document', 'handshake', 'backup']),
  }),
  KeysZeroized: z.strictObject({ peer: fleetId.optional(), count }),
  KeyRotated: z.strictObject({
    keyKind: z.enum(['signed-prekey', 'last-resort-prekey', 'one-time-prekeys', 'identity', 'agreement', 'data-key']),
    count,
  }),
  EndpointRotated: z.strictObject({ methodId: z.string().max(64) }),
  BreakerStateChanged: z.strictObject({
    service: z.string().max(32),
    target: z.string().max(160),
    from: z.enum(['closed', 'half-open', 'open']),
    to: z.enum(['closed', 'half-open', 'open']),
  }),
  VerificationFailed: z.strictObject({
    peer: fleetId,
    envelopeDigest: hex32.optional(),
    messageId: messageId.optional(),
    what: z.enum(['commitment', 'content-digest', 'document-signature', 'certificate', 'bundle', 'envelope']),
    code: errorCode,
  }),
  SignatureVerified: z.strictObject({ peer: fleetId, messageId, kind: documentKind }),
  SignatureRejected: z.strictObject({ peer: fleetId, messageId: messageId.optional(), code: errorCode }),
  ReplayRejected: z.strictObject({ peer: fleetId, envelopeDigest: hex32 }),
  RateLimitTriggered: z.strictObject({
    layer: z.enum(['handshake', 'peer-messages', 'peer-bytes', 'api', 'bundle']),
    peer: fleetId.optional(),
    limit: z.string().max(64),
    count,
  }),
  AuthFailed: z.strictObject({
    surface: z.enum(['api', 'p2p']),
    reason: z.enum(['missing-token', 'unknown-token', 'scope', 'unknown-peer', 'blocked-peer']),
    client: z.string().max(80).optional(),
    count,
  }),
  AdminAction: z.strictObject({
    action: z.enum([
      'peer-pinned',
      'peer-verified',
      'peer-blocked',
      'peer-removed',
      'session-rotated',
      'session-resynced',
      'certificate-issued',
      'peer-policy-set',
      'peer-identity-approved',
      'identity-renewed',
      'keys-backed-up',
      'keys-restored',
      'database-restored',
      'kek-rotated',
    ]),
    subject: z.string().max(80),
  }),
  PaymentInitiated: z.strictObject({ messageId }),
  PaymentCompleted: z.strictObject({ messageId }),
  PaymentFailed: z.strictObject({ messageId, code: errorCode }),
  SubscriptionCreated: z.strictObject({ subscriptionId: messageId }),
  MessageSent: shared,
  MessageReceived: shared,
  ConsentGranted: z.strictObject({ consentId: messageId, peer: fleetId, purpose: z.enum(['share', 'log']), kinds: z.array(documentKind) }),
  ConsentWithdrawn: z.strictObject({ consentId: messageId, peer: fleetId, purpose: z.enum(['share', 'log']) }),
  ResyncStarted: z.strictObject({ peer: fleetId, reason: z.string().max(64) }),
  ResyncCompleted: z.strictObject({ peer: fleetId, epoch: count, continuity: z.enum(['kept', 'lost']) }),
  IdentityChanged: z.strictObject({ peer: fleetId, sequence: count }),
  DocumentShredded: z.strictObject({ documentId: messageId }),
  CheckpointSigned: z.strictObject({ size: count }),
  CheckpointWitnessed: z.strictObject({ peer: fleetId, size: count }),
} as const

export type AuditEventType = keyof typeof AUDIT_EVENT_BODIES
export const AUDIT_EVENT_TYPES = Object.keys(AUDIT_EVENT_BODIES) as AuditEventType[]

/** Only these two need a consent to log. */
export const SHARING_EVENT_TYPES: readonly AuditEventType[] = ['MessageSent', 'MessageReceived']

export const auditEvent = z
  .strictObject({
    eventId: messageId,
    stream: auditStream,
    type: z.enum(AUDIT_EVENT_TYPES as [AuditEventType, ...AuditEventType[]]),
    /** When it happened, milliseconds. */
    at: z.int().nonnegative(),
    /** A fleet id, a service name or `client:<token name>`; never a person. */
    actor: z.string().max(100),
    body: z.record(z.string(), z.unknown()),
  })
  .superRefine((event, ctx) => {
    const body = AUDIT_EVENT_BODIES[event.type].safeParse(event.body)
    if (!body.success)
      ctx.addIssue({
        code: 'custom',
        path: ['body'],
        message: `not a ${event.type} body: ${body.error.issues[0]?.path.join('.')} ${body.error.issues[0]?.message}`,
      })
    const sharing = SHARING_EVENT_TYPES.includes(event.type)
    if (sharing !== (event.stream === 'sharing'))
      ctx.addIssue({ code: 'custom', path: ['stream'], message: `${event.type} belongs to the ${sharing ? 'sharing' : 'security'} stream` })
  })
export type AuditEvent = z.infer<typeof auditEvent>
export type AuditEventBody<T extends AuditEventType> = z.infer<(typeof AUDIT_EVENT_BODIES)[T]>
