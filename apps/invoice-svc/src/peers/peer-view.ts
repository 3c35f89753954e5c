/** A peer as the API shows it. */
import { relayPeer } from '@tallystick/contracts/relay'
import { sessionPeer } from '@tallystick/contracts/session'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { z } from 'zod'
import type { App } from '../app.js'
import { hex, hexDigest, iso, time } from '../http/page.js'
import { missingFrom, type PeerRow, type PeerState } from './peer.store.js'

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
    keyState: z.enum(['pinned', 'verified', 'blocked', 'removed']),
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
    keyState: state === 'blocked' || state === 'removed' ? state : row.verified ? 'verified' : 'pinned',
    pinnedAt: iso(row.pinnedAt),
    cause: row.cause,
    nextAttemptAt: row.syncedVersion < row.version ? iso(row.nextSyncAt) : null,
    session: null,
    connection: null,
    missing: null,
  }
}

/** With session and connection; a service that is away leaves its part null and is named. */
export async function peerDetails(app: App, row: PeerRow): Promise<PeerView> {
  const [session, connection, missing] = await Promise.all([
    sessionOf(app, row.fleetId),
    connectionOf(app, row.fleetId),
    missingFrom(app.db, row.fleetId),
  ])
  const unavailable = [...(session === 'away' ? (['session'] as const) : []), ...(connection === 'away' ? (['relay'] as const) : [])]
  return {
    ...peerSummary(row),
    session: session === 'away' ? null : session,
    connection: connection === 'away' ? null : connection,
    ...(unavailable.length === 0 ? {} : { unavailable }),
    missing,
  }
}

async function sessionOf(app: App, fleetId: string): Promise<PeerView['session'] | 'away'> {
  const answer = await orAway(app.rpc.call(sessionPeer, { fleetId }, { timeoutMs: 2_000 }))
  if (answer === 'away') return 'away'
  if (!answer.ok || answer.session === null) return null
  const { epoch, startedAt, ageMs, sent, messagesLeft, confirmed } = answer.session
  return { epoch, startedAt: new Date(startedAt).toISOString(), ageMs, sent, messagesLeft, confirmed }
}

async function connectionOf(app: App, fleetId: string): Promise<PeerView['connection'] | 'away'> {
  const answer = await orAway(app.rpc.call(relayPeer, { fleetId }, { timeoutMs: 2_000 }))
  if (answer === 'away') return 'away'
  if (!answer.ok) return null
  const { connected, transport, queued, lastError, nextAttemptAt } = answer
  return { connected, transport, queued, lastError, nextAttemptAt: nextAttemptAt === null ? null : new Date(nextAttemptAt).toISOString() }
}

async function orAway<T>(call: Promise<T>): Promise<T | 'away'> {
  try {
    return await call
  } catch (error) {
    if (error instanceof RpcFault) return 'away'
    throw error
  }
}
