/**
 * Every limit, quota and timeout of relay-svc, each with its reason. `TALLYSTICK_RELAY_<NAME>` overrides one, the
 * name in upper snake case: `handshakesPerAddress` is `TALLYSTICK_RELAY_HANDSHAKES_PER_ADDRESS`.
 * @see docs/spec/relay.md §6
 */
import { MAX_ENVELOPE_BYTES } from '@tallystick/contracts/call'
import { z } from 'zod'

const MIB = 1024 * 1024

export const DEFAULT_LIMITS = {
  // ---------------------------------------------------------------------------------------------- before the PeerId
  /** Handshakes a window and address that did not prove an allowed PeerId: a counterparty needs one that succeeds. */
  handshakesPerAddress: 5,
  /** The same over all addresses that no allowed peer has used: many addresses cost no more CPU than this. */
  handshakesUnknown: 100,
  /** Length of the window of both, ms. */
  handshakeWindowMs: 60_000,
  /** Addresses remembered by the handshake window; the oldest goes first. About 20 MB at most. */
  trackedAddresses: 100_000,
  /**
   * At an address of an allowed peer that has used up its handshakes, one more is let in after this pause, ms: a
   * hostile neighbour behind the same NAT can slow a reconnect, not forbid it, and costs two handshakes a second at most.
   */
  reservedHandshakeIntervalMs: 2_000,
  /** A handshake (Noise and the muxer) that takes longer is cut, ms. Three round trips; 10 s covers a bad satellite link. */
  handshakeTimeoutMs: 10_000,
  /** Unfinished handshakes from unknown addresses at one time: bounds sockets held by silent clients. */
  pendingHandshakes: 64,
  /** Open connections in all. Only allowed peers have one, so this bounds peers times `connectionsPerPeer`. */
  connections: 512,
  /** Open connections of one peer; a newer one replaces the oldest, which is most likely the dead one. */
  connectionsPerPeer: 4,

  // ---------------------------------------------------------------------------------------------------- on a stream
  /** A frame must be complete this long after its first byte, ms; one more such span for every MiB of its body. */
  readTimeoutMs: 30_000,
  /** A stream with no frame for this long is closed, ms; the sender opens another when it has something. */
  idleTimeoutMs: 300_000,
  /** Showing a certificate, its answer included, ms: a few kilobytes and one call of the bus. */
  certificateTimeoutMs: 5_000,
  /** The other side's hello must follow the opening of a stream within this, ms. */
  helloTimeoutMs: 5_000,
  /** Largest frame header: a receipt's header is 40 bytes. */
  frameHeaderBytes: 512,
  /** Largest frame body: one envelope. Refused from the frame's prefix, before a byte of it is buffered. */
  frameBodyBytes: MAX_ENVELOPE_BYTES,
  /** Bytes of envelopes that a sender may have unacknowledged: what one stream can make its receiver hold. */
  windowBytes: 2 * MAX_ENVELOPE_BYTES,
  /** Envelopes that a sender may have unacknowledged. */
  windowFrames: 64,
  /** Answers that a peer has not read, bytes, before its stream is closed: a window of receipts and all its bundles are 200 kB. */
  unreadAnswerBytes: MIB,

  // -------------------------------------------------------------------------------------------------------- per peer
  /** Envelopes a minute from one peer: 200 a second is far above an organisation's invoices, below one core's limit. */
  peerMessagesPerMinute: 12_000,
  /** Bytes a minute from one peer: 128 largest envelopes. */
  peerBytesPerMinute: 512 * MIB,
  /** Prekey bundles a minute for one peer: one is needed for each session; more would drain the one-time prekeys. */
  peerBundlesPerMinute: 10,
  /** Certificates that one peer may show a minute: one on each new connection, and nobody reconnects that often for long. */
  peerCertificatesPerMinute: 6,
  /** Inbound bytes of one peer that wait for invoice-svc: one peer cannot fill the disk while it is down. */
  inboundQueueBytesPerPeer: 256 * MIB,
  /** Refused and quarantined bytes of one peer that are kept for inspection; the oldest lose their bytes first. */
  quarantineBytesPerPeer: 64 * MIB,
  /** Outbound bytes that wait for one peer: a peer that is away for weeks cannot fill the disk either. */
  outboundQueueBytesPerPeer: 1024 * MIB,

  // --------------------------------------------------------------------------------------------------------- sending
  /** One address must answer within this, ms; candidates are tried in order. */
  dialAddressTimeoutMs: 4_000,
  /** All candidates of one attempt together, ms; below the 12 s deadline of relay.v1.fetchBundle. */
  dialTimeoutMs: 9_000,
  /** With envelopes unacknowledged and nothing heard for this long, the connection counts as dead, ms. */
  receiptTimeoutMs: 60_000,
  /** First pause after a failure, ms; it doubles, with jitter, up to `backoffMaxMs`. */
  backoffFirstMs: 250,
  /** Longest pause between attempts, ms (while the circuit to the peer is closed). */
  backoffMaxMs: 30_000,
  /** Failed dials in 60 s that open the circuit to a peer. */
  peerBreakerFailures: 5,
  /** First pause of an open circuit, ms; it doubles while the probe fails. A peer that connects to us is used at once. */
  peerBreakerResetMs: 120_000,
  /** Longest pause of an open circuit, ms. */
  peerBreakerMaxResetMs: 900_000,
  /** A bundle must be there within this, a dial included, ms; below the same deadline. */
  bundleTimeoutMs: 11_000,
  /** A sending replica holds a peer this long without renewing, ms: the pause after a replica dies for good. */
  leaseMs: 10_000,
  /** How often queues and the allow-list are looked at without a wake-up, ms: wake-ups may be lost. */
  pollMs: 2_000,

  /** How often the own certificate is asked for, ms: how late peers hear of a new one, at most. */
  certificatePollMs: 30_000,
  /** A connection to the database must stand within this, ms: one that hangs is a database that is away. */
  databaseConnectMs: 5_000,
  /** The longest statement, ms: above any pruning, and below the patience of whoever waits for an answer twice. */
  databaseStatementMs: 30_000,

  // -------------------------------------------------------------------------------------------------------- delivery
  /** Bytes of one batch to invoice-svc: below the bus's 8 MiB, with room for the framing. */
  deliverBatchBytes: 7 * MIB,
  /** Failures that blame an envelope before it is quarantined; a service that is away never counts. */
  deliveryFailures: 10,
  /** Longest pause between deliveries of one envelope, ms. */
  deliveryBackoffMaxMs: 60_000,
  /** Settled rows are kept this long, ms: duplicates get their first receipt for 30 days. */
  retentionMs: 30 * 86_400_000,
  /** Security events of the same kind are counted together for this long, ms: an attacker cannot fill the audit log. */
  auditWindowMs: 60_000,
} as const

export type LimitName = keyof typeof DEFAULT_LIMITS
export type Limits = Readonly<Record<LimitName, number>>

export function limitVariable(name: string): string {
  return `TALLYSTICK_RELAY_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`
}

const NAMES = Object.keys(DEFAULT_LIMITS) as LimitName[]

/** Environment variables of all limits, for the service's schema. */
export const LIMIT_VARIABLES: Record<string, z.ZodOptional<z.ZodCoercedNumber>> = Object.fromEntries(
  NAMES.map((name) => [limitVariable(name), z.coerce.number().int().positive().optional()]),
)

/** @param overrides by name (tests), @param env by variable (operators) */
export function limitsFrom(overrides: Partial<Limits> = {}, env: Record<string, unknown> = {}): Limits {
  const limits: Record<LimitName, number> = { ...DEFAULT_LIMITS, ...overrides }
  for (const name of NAMES) {
    const value = env[limitVariable(name)]
    if (typeof value === 'number') limits[name] = value
  }
  return limits
}
