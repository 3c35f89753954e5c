/**
 * Whether a handshake of the peer may start a session now, and what salts it. Decided from public values and from the
 * exporters of the epoch before; nothing is written here.
 * @see docs/spec/session.md §7.1, §7.2, docs/spec/custody.md §7.2
 */
import { ProtocolError } from '@tallystick/primitives/errors'
import { exporterByName } from '@tallystick/ratchet/double-ratchet'
import type { SecretBytes } from '@tallystick/secret-bytes/arena'
import type { Envelope } from '@tallystick/wire/envelope'
import type { Context } from '../context.js'
import type { SecretScope } from '../custody/secret-scope.js'
import type { Tx } from '../db.js'
import { isDamage } from '../recovery/damaged-session.js'
import { mayAccept, type Recovery } from '../recovery/recovery-state.js'
import { FIRST_EPOCH, MAX_EPOCH_LEAP } from './epochs.js'
import type { SessionStore } from './sessions.store.js'

export interface JudgeRequest {
  readonly context: Context
  readonly store: SessionStore
  readonly tx: Tx
  readonly scope: SecretScope
  readonly fleetId: string
  readonly recovery: Recovery
  readonly envelope: Envelope
}

/** The handshake is ahead of one that has not come yet: whoever asked looks how long it has been waiting. */
export class EarlyHandshake extends ProtocolError {
  constructor(epoch: number) {
    super('ContinuityBroken', `epoch ${epoch} comes before the one that it follows`)
  }
}

/** A reset that only a person may accept now. */
export class ResetRefused extends ProtocolError {
  constructor() {
    super('ResyncRequired', 'the peer starts over, and that waits for the approval of a person')
  }
}

const broken = (why: string) => new ProtocolError('ContinuityBroken', why)

/**
 * @returns the salt, in the arena and owned by the caller; undefined for zeros
 * @throws EarlyHandshake, ResetRefused
 * @throws ProtocolError ContinuityBroken
 */
export async function judgeHandshake(request: JudgeRequest): Promise<SecretBytes | undefined> {
  const { context, store, tx, fleetId, recovery, envelope } = request
  const { epoch } = envelope.header
  const { highest, settled, answered } = await store.standing(tx, fleetId)
  if (envelope.handshake?.reset === true) {
    if (epoch <= settled || epoch > highest + MAX_EPOCH_LEAP + 1) throw broken(`a reset to epoch ${epoch} after epoch ${settled}`)
    if (!mayAccept(recovery, context.clock.now(), context.limits)) throw new ResetRefused()
    return undefined
  }
  if (epoch > highest + 1) throw new EarlyHandshake(epoch)
  // The epoch itself: both sides started it at once. Below that the peer has fallen behind.
  if (epoch < FIRST_EPOCH || epoch < settled || epoch === answered) throw broken(`epoch ${epoch} does not follow epoch ${settled}`)
  return continuitySalt(request)
}

/**
 * An exporter of the epoch before, unless this side has sent nothing in that epoch and still has its state to know it
 * by: then the peer can have no exporter.
 */
async function continuitySalt({ context, store, tx, scope, fleetId, envelope }: JudgeRequest): Promise<SecretBytes | undefined> {
  const { epoch } = envelope.header
  const continuity = envelope.handshake?.continuity
  if (epoch === FIRST_EPOCH) {
    if (continuity !== undefined) throw broken('the first epoch continues nothing')
    return undefined
  }
  const before = await store.ofEpoch(tx, fleetId, epoch - 1)
  if (continuity === undefined) {
    const kept = before.filter(({ lost }) => !lost)
    if (kept.length === 0 || kept.some(({ sentApplication, sentControl }) => sentApplication + sentControl > 0))
      throw broken('the handshake names no exporter of the old epoch')
    return undefined
  }
  for (const row of before) {
    const found = findExporter(context, scope, store, row, continuity)
    if (found) return found
  }
  throw broken('the handshake names an exporter that this side does not have')
}

function findExporter(
  context: Context,
  scope: SecretScope,
  store: SessionStore,
  row: Parameters<SessionStore['openState']>[1],
  continuity: Uint8Array,
): SecretBytes | undefined {
  let state: SecretBytes
  try {
    state = scope.own(store.openState(context, row))
  } catch (error) {
    if (isDamage(error)) return undefined
    throw error
  }
  try {
    return exporterByName(state, context.arena, continuity)
  } catch (error) {
    // Both sides may have started the old epoch: the other session may have it.
    if (error instanceof ProtocolError && error.code === 'ContinuityBroken') return undefined
    throw error
  } finally {
    scope.drop(state)
  }
}
