/** A peer as the API shows it. */
import { relayPeer } from '@tallystick/contracts/relay'
import { keyState, recoveryState } from '@tallystick/contracts/session'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { z } from 'zod'
import type { App } from '../app.js'
import { hex, hexDigest, iso, time } from '../http/page.js'
import { askOrAway, keepPeerKeys, type PeerKeys } from './peer-keys.js'
import { missingFrom, peerById, type PeerRow, type PeerState } from './peer.store.js'

export const peerStates = z.enum(['pending', 'active', 'blocked', 'removed'])

export const peerView = z
  .strictObject({
    peerId: z.string().describe('The fleet id'),
    fleetId: z.string(),
    displayName: z.string(),
    fingerprint: z.string(),
    peerIds: z.array(z.string()).describe('libp2p PeerIds'),
    multiaddrs: z.array(z.string()),
    certificateDigest: hexDigest,
    sequence: z.int(),
    state: peerStates,
    verified: z.boolean(),
    trust: z.enum(['pinned', 'verified', 'blocked', 'removed']),
    keyState: keyState.nullable().describe('What a person should know about the keys with this peer; null until session-svc has said'),
    pendingFingerprint: z.string().nullable().describe('Of a new identity that waits for POST …/verify with this fingerprint'),
    recovery: z
      .strictObject({ state: recoveryState, reason: z.string(), since: time.nullable() })
      .nullable()
      .describe('Whether the two sides still understand each other; null in lists'),
    oldEpochs: z.int().nullable().describe('Superseded epochs kept for messages in flight; null in lists'),
    rotateEvery: z.int().nullable().describe("Documents per epoch with this peer; null: the fleet's limit, and in lists"),
    pinnedAt: time,
    cause: z.string().nullable(),
    nextAttemptAt: time.nullable(),
    session: z
      .strictObject({ epoch: z.int(), startedAt: time, ageMs: z.int(), sent: z.int(), messagesLeft: z.int(), confirmed: z.boolean() })
      .nullable(),
    connection: z
      .strictObject({
        connected: z.boolean(),
        transport: z.string().nullable(),
        queued: z.int(),
        lastError: z.string().nullable(),
        nextAttemptAt: time.nullable(),
      })
      .nullable(),
    unavailable: z
      .array(z.enum(['session', 'relay']))
      .optional()
      .describe('Services that could not say'),
    missing: z.int().nullable().describe('Messages of this peer that are missing so far; null in lists'),
  })
  .meta({ id: 'Peer' })
export type PeerView = z.output<typeof peerView>

/** Without what other services know. */
export function peerSummary(row: PeerRow): PeerView {
  const state = row.state as PeerState
  return {
    peerId: row.fleetId,
    fleetId: row.fleetId,
    displayName: row.displayName,
    fingerprint: row.fingerprint,
    peerIds: row.peerIds,
    multiaddrs: row.multiaddrs,
    certificateDigest: hex(row.certificateDigest),
    sequence: Number(row.sequence),
    state,
    verified: row.verified,
    trust: state === 'blocked' || state === 'removed' ? state : row.verified ? 'verified' : 'pinned',
    keyState: keyState.nullable().catch(null).parse(row.keyState),
    pendingFingerprint: row.pendingFingerprint,
    recovery: null,
    oldEpochs: null,
    rotateEvery: null,
    pinnedAt: iso(row.pinnedAt),
    cause: row.cause,
    nextAttemptAt: row.syncedVersion < row.version ? iso(row.nextSyncAt) : null,
    session: null,
    connection: null,
    missing: null,
  }
}

/** With keys, session and connection; a service that is away leaves its part null and is named. */
export async function peerDetails(app: App, row: PeerRow): Promise<PeerView> {
  const [keys, connection, missing] = await Promise.all([
    askOrAway(app, row.fleetId),
    connectionOf(app, row.fleetId),
    missingFrom(app.db, row.fleetId),
  ])
  // What was asked anyway is kept: the row may be a whole interval behind.
  const newer = keys !== 'away' && keys.ok && (await keepPeerKeys(app, keys)) ? await peerById(app.db, row.fleetId) : row
  const unavailable = [...(keys === 'away' ? (['session'] as const) : []), ...(connection === 'away' ? (['relay'] as const) : [])]
  return {
    ...peerSummary(newer ?? row),
    ...(keys !== 'away' && keys.ok ? ofKeys(keys) : {}),
    connection: connection === 'away' ? null : connection,
    ...(unavailable.length === 0 ? {} : { unavailable }),
    missing,
  }
}

function ofKeys(keys: PeerKeys): Pick<PeerView, 'keyState' | 'pendingFingerprint' | 'recovery' | 'oldEpochs' | 'rotateEvery' | 'session'> {
  const { session, recovery, keyState, pendingFingerprint, oldEpochs, rotateEvery } = keys
  return {
    keyState,
    pendingFingerprint,
    recovery: { ...recovery, since: recovery.since === null ? null : new Date(recovery.since).toISOString() },
    oldEpochs,
    rotateEvery,
    session: session && { ...session, startedAt: new Date(session.startedAt).toISOString() },
  }
}

async function connectionOf(app: App, fleetId: string): Promise<PeerView['connection'] | 'away'> {
  try {
    const answer = await app.rpc.call(relayPeer, { fleetId }, { timeoutMs: 2_000 })
    if (!answer.ok) return null
    const { connected, transport, queued, lastError, nextAttemptAt } = answer
    return { connected, transport, queued, lastError, nextAttemptAt: nextAttemptAt === null ? null : new Date(nextAttemptAt).toISOString() }
  } catch (error) {
    if (error instanceof RpcFault) return 'away'
    throw error
  }
}
