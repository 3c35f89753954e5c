/**
 * Ratchet sessions at rest. Every write carries the version that was read: should a writer ever act on a state that
 * somebody else has moved on, its write finds no row and the transaction is rolled back.
 */
import { toHex } from '@tallystick/primitives/bytes'
import type { SecretBytes } from '@tallystick/secret-bytes/arena'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import { plainBytes } from '../plain-bytes.js'
import { Prisma } from '../gen/client.js'

const TABLE = 'session'

export interface SessionRow {
  /** 16 bytes. */
  sid: Uint8Array
  fleetId: string
  epoch: number
  role: 'initiator' | 'responder'
  /** EK of the handshake, 32 bytes. */
  ephemeralKey: Uint8Array
  /** Sealed; null once wiped. */
  state: Uint8Array | null
  kekId: string
  version: number
  /** Encoded handshake, as long as it has to be repeated. */
  handshake: Uint8Array | null
  active: boolean
  confirmed: boolean
  /** Given up by a resync: readable for the grace time, never sent on again. */
  lost: boolean
  sentApplication: number
  sentControl: number
  received: number
  startedAt: Date
  lastUsedAt: Date
  retiredAt: Date | null
}

/** Epochs of a peer; 0 for none. */
export interface Standing {
  /** Of any session, own unanswered ones included. */
  readonly highest: number
  /** Of a session that is confirmed, or that the peer began. */
  readonly settled: number
  /** Of a session that the peer began. */
  readonly answered: number
}

export interface WipeRule {
  readonly before: Date
  readonly quiet: Date
  readonly keep: number
}

/** Another writer moved the session on: impossible while the locks hold, fatal for this transaction if it happens. */
export class StaleSession extends Error {
  constructor(sid: Uint8Array) {
    super(`session ${toHex(sid)} was changed by another writer`)
    this.name = 'StaleSession'
  }
}

const COLUMNS = Prisma.sql`
  sid, fleet_id AS "fleetId", epoch, role, ephemeral_key AS "ephemeralKey", state, kek_id AS "kekId", version, handshake, active,
  confirmed, lost, sent_application AS "sentApplication", sent_control AS "sentControl", received, started_at AS "startedAt",
  last_used_at AS "lastUsedAt", retired_at AS "retiredAt"`

/** One writer per session: held until the transaction ends. */
export class SessionStore {
  async active(tx: Tx, fleetId: string): Promise<SessionRow | undefined> {
    const rows = await tx.$queryRaw<SessionRow[]>`SELECT ${COLUMNS} FROM session.session WHERE fleet_id = ${fleetId} AND active FOR UPDATE`
    return rows[0]
  }

  async bySid(tx: Tx, fleetId: string, sid: Uint8Array): Promise<SessionRow | undefined> {
    const rows = await tx.$queryRaw<SessionRow[]>`
      SELECT ${COLUMNS} FROM session.session WHERE sid = ${plainBytes(sid)} AND fleet_id = ${fleetId} FOR UPDATE`
    return rows[0]
  }

  /** Sessions of an epoch whose state is still there: at most two, when both sides started at once. */
  async ofEpoch(tx: Tx, fleetId: string, epoch: number): Promise<SessionRow[]> {
    return tx.$queryRaw<SessionRow[]>`
      SELECT ${COLUMNS} FROM session.session WHERE fleet_id = ${fleetId} AND epoch = ${epoch} AND state IS NOT NULL
       ORDER BY ephemeral_key FOR UPDATE`
  }

  /** The highest epochs ever used with this peer, wiped ones included. @see docs/spec/session.md §7.1 */
  async standing(tx: Tx, fleetId: string): Promise<Standing> {
    const rows = await tx.$queryRaw<Standing[]>`
      SELECT coalesce(max(epoch), 0) AS highest, coalesce(max(epoch) FILTER (WHERE confirmed OR role = 'responder'), 0) AS settled,
             coalesce(max(epoch) FILTER (WHERE role = 'responder'), 0) AS answered
        FROM session.session WHERE fleet_id = ${fleetId}`
    return rows[0]!
  }

  async insert(context: Context, tx: Tx, row: Omit<SessionRow, 'state' | 'kekId' | 'version'>, state: SecretBytes): Promise<void> {
    const value = context.custody.sealSecret(state, { table: TABLE, row: toHex(row.sid), version: 1 })
    await tx.session.create({
      data: {
        ...row,
        sid: plainBytes(row.sid),
        ephemeralKey: plainBytes(row.ephemeralKey),
        handshake: row.handshake && plainBytes(row.handshake),
        state: plainBytes(value.sealed),
        kekId: value.kekId,
        version: 1,
      },
    })
  }

  /** @throws StaleSession when the row is not at the version that was read */
  async save(context: Context, tx: Tx, row: SessionRow, state: SecretBytes): Promise<void> {
    const version = row.version + 1
    const value = context.custody.sealSecret(state, { table: TABLE, row: toHex(row.sid), version })
    const written = await tx.$executeRaw`
      UPDATE session.session
         SET state = ${plainBytes(value.sealed)}, kek_id = ${value.kekId}, version = ${version}, handshake = ${row.handshake && plainBytes(row.handshake)},
             active = ${row.active}, confirmed = ${row.confirmed}, sent_application = ${row.sentApplication}, sent_control = ${row.sentControl},
             received = ${row.received}, last_used_at = ${row.lastUsedAt}, retired_at = ${row.retiredAt}
       WHERE sid = ${plainBytes(row.sid)} AND version = ${row.version}`
    if (written !== 1) throw new StaleSession(row.sid)
  }

  /** The sessions below an epoch are never sent on again, and stay readable for their grace time. */
  async giveUp(tx: Tx, fleetId: string, below: number, now: Date): Promise<number> {
    return tx.$executeRaw`
      UPDATE session.session SET active = false, lost = true, retired_at = coalesce(retired_at, ${now})
       WHERE fleet_id = ${fleetId} AND epoch < ${below} AND NOT lost`
  }

  /** A state that does not unseal is of no use to anybody. */
  async giveUpDamaged(tx: Tx, row: SessionRow, now: Date): Promise<void> {
    await tx.session.update({
      where: { sid: plainBytes(row.sid) },
      data: { active: false, lost: true, state: null, handshake: null, retiredAt: row.retiredAt ?? now, wipedAt: now },
    })
  }

  /** Makes a session receive-only without touching its state. */
  async retire(tx: Tx, sid: Uint8Array, now: Date): Promise<void> {
    await tx.session.update({ where: { sid: plainBytes(sid) }, data: { active: false, retiredAt: now } })
  }

  /** @returns in the arena, owned by the caller */
  openState(context: Context, row: SessionRow): SecretBytes {
    return context.custody.openSecret({ sealed: row.state!, kekId: row.kekId }, { table: TABLE, row: toHex(row.sid), version: row.version })
  }

  /**
   * Destroys the states of superseded epochs of a peer: those retired before `before`, those in which nothing has come
   * since `quiet` when the session that is sent on is confirmed, and all but the newest `keep`.
   * @returns how many were destroyed
   */
  async wipeSuperseded(tx: Tx, fleetId: string, { before, quiet, keep }: WipeRule, now: Date): Promise<number> {
    return tx.$executeRaw`
      UPDATE session.session SET state = NULL, handshake = NULL, wiped_at = ${now}
       WHERE sid IN (
         SELECT sid FROM (
           SELECT sid, retired_at, last_used_at, row_number() OVER (ORDER BY epoch DESC, retired_at DESC) AS rank
             FROM session.session WHERE fleet_id = ${fleetId} AND NOT active AND state IS NOT NULL) old
          WHERE rank > ${keep}::bigint OR retired_at < ${before}
             OR (retired_at < ${quiet} AND last_used_at < ${quiet} AND EXISTS (
                  SELECT 1 FROM session.session WHERE fleet_id = ${fleetId} AND active AND confirmed)))`
  }
}
