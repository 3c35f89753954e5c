/**
 * The outbound pump: what is queued is signed, given its place in the peer's sequence, sealed and handed to the relay.
 * Every step is idempotent and kept before the next begins, so that a process killed anywhere leaves work that the
 * next pass finishes: the statement and the payload are written once, `seal` and `send` answer the same again.
 */
import { recordAuditEvents } from '@tallystick/audit-outbox/outbox'
import type { Refusal } from '@tallystick/contracts/codes'
import { relaySend } from '@tallystick/contracts/relay'
import { sessionSeal, sessionSignDocument } from '@tallystick/contracts/session'
import { isConsented } from '@tallystick/invoice-domain/consent'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { encodePayload, payloadHash, type PayloadKind } from '@tallystick/wire/payload'
import type { DocumentKind } from '@tallystick/wire/document'
import { now, type App, type Tx } from '../app.js'
import { consentsWith } from '../consents/consent.store.js'
import { owned } from '../http/page.js'
import { recordSharing } from '../audit/sharing.js'
import { lockPeer, peerById } from '../peers/peer.store.js'
import { advanceShares, explainShares, refuseShares } from '../shares/share.store.js'
import { Refused } from '../refused.js'
import { batchesOf } from './batches.js'
import {
  claimMessages,
  keepPayload,
  keepStatement,
  lockClaimed,
  markRelayed,
  markSealed,
  postponeMessages,
  refuseMessages,
  releaseMessages,
  renewClaim,
  type MessageRow,
} from './message.store.js'
import { faultAsRefusal, isAway, isFinal, waitAfter } from './outcome.js'
import { enqueueStatus } from './receipts.js'

/** Signatures asked for at a time. */
const SIGN_AT_ONCE = 8
const CONSENT_ENDED = 'The consent to share this was withdrawn or has run out.'

type Reason = Pick<Refusal, 'code' | 'message' | 'retryAfterMs'>
type Encoded = MessageRow & { payload: Uint8Array<ArrayBuffer> }
type Sealed = Encoded & { envelope: Uint8Array }

/** One pass. @returns messages taken */
export async function pumpOnce(app: App): Promise<number> {
  const at = app.clock.now()
  const claim = await claimMessages(app.db, new Date(at), new Date(at + app.limits.pumpLeaseMs), {
    items: app.limits.pumpBatch,
    bytes: app.limits.pumpBatchBytes,
  })
  if (claim.rows.length === 0) return 0
  const pass = new Pass(app, claim.token)
  const renewal = setInterval(() => void renew(app, claim.token), app.limits.pumpLeaseMs / 3)
  try {
    const ready = await pass.admit(claim.rows)
    const signed = await pass.sign(ready)
    const encoded = await pass.encode(signed)
    const sealed = await pass.seal(encoded)
    await pass.send(sealed)
  } catch (error) {
    // Unforeseen: give the rest back, but not at once.
    await releaseMessages(
      app.db,
      claim.rows.map((row) => row.id),
      claim.token,
      new Date(app.clock.now() + app.limits.retryFirstMs * 5),
    )
    throw error
  } finally {
    clearInterval(renewal)
  }
  return claim.rows.length
}

/** Should it fail, another pass may take the same messages: every step of both is idempotent or bound to its claim. */
async function renew(app: App, token: string): Promise<void> {
  try {
    await renewClaim(app.db, token, new Date(app.clock.now() + app.limits.pumpLeaseMs))
  } catch (error) {
    app.log.warn({ err: error }, 'the hold on claimed messages could not be renewed')
  }
}

class Pass {
  constructor(
    private readonly app: App,
    private readonly token: string,
  ) {}

  /** Messages to peers that are not (yet, or any more) in use wait. */
  async admit(rows: readonly MessageRow[]): Promise<MessageRow[]> {
    const states = new Map<string, string>()
    for (const peer of new Set(rows.map((row) => row.peer))) states.set(peer, (await peerById(this.app.db, peer))?.state ?? 'removed')
    const waiting = (state: string) => rows.filter((row) => states.get(row.peer) === state)
    await this.wait(waiting('pending'), { code: 'NotReady', message: 'The peer is still being set up.' })
    await this.wait(waiting('blocked'), { code: 'PeerBlocked', message: 'The peer is blocked.' })
    await this.wait(waiting('removed'), { code: 'PeerBlocked', message: 'The peer was removed.' })
    return waiting('active')
  }

  async sign(rows: readonly MessageRow[]): Promise<MessageRow[]> {
    const done = rows.filter((row) => row.signedKind === null || row.statement !== null || row.payload !== null)
    const open = rows.filter((row) => !done.includes(row))
    const certificate = open.length === 0 ? undefined : await this.ownCertificate(open)
    if (certificate === undefined) return done
    for (let i = 0; i < open.length; i += SIGN_AT_ONCE) {
      const group = open.slice(i, i + SIGN_AT_ONCE)
      const answers = await Promise.all(group.map((row) => this.signOne(row)))
      for (const [n, answer] of answers.entries()) {
        const row = group[n]!
        if (answer instanceof Uint8Array) {
          if (await keepStatement(this.app.db, row.id, this.token, answer, certificate)) done.push({ ...row, statement: owned(answer) })
        } else if (answer instanceof RpcFault) await this.wait([row], faultAsRefusal(answer))
        else await this.settle([row], answer)
      }
    }
    return done.sort((a, b) => (a.id < b.id ? -1 : 1))
  }

  private async ownCertificate(waiting: readonly MessageRow[]): Promise<Uint8Array | undefined> {
    try {
      return (await this.app.fleet.known()).certificate
    } catch (error) {
      await this.wait(waiting, error instanceof Refused ? { code: error.code, message: error.message } : faultAsRefusal(error))
      return undefined
    }
  }

  /** A fault of the bus is no verdict on the message, whatever its code. */
  private async signOne(row: MessageRow): Promise<Uint8Array | Reason | RpcFault> {
    const issuedAt = this.app.clock.now()
    try {
      const answer = await this.app.rpc.call(sessionSignDocument, {
        kind: row.signedKind as DocumentKind,
        documentId: row.documentId!,
        contentDigest: row.contentDigest,
        audience: row.peer,
        issuedAt,
        expiresAt: issuedAt + this.app.limits.statementLifetimeMs,
      })
      return answer.ok ? answer.statement : answer
    } catch (error) {
      if (error instanceof RpcFault) return error
      throw error
    }
  }

  /** Gives each its sequence number and the hash of the one before; the peer's row is locked, so there is one writer. */
  async encode(rows: readonly MessageRow[]): Promise<Encoded[]> {
    const done = rows.filter(isEncoded)
    const open = rows.filter((row) => !isEncoded(row))
    for (const peer of new Set(open.map((row) => row.peer))) {
      const mine = open.filter((row) => row.peer === peer)
      done.push(
        ...(await this.app.db.$transaction(async (tx) => await this.encodeFor(tx, peer, mine), { maxWait: 10_000, timeout: 30_000 })),
      )
    }
    return done.sort((a, b) => (a.id < b.id ? -1 : 1))
  }

  private async encodeFor(tx: Tx, peer: string, rows: readonly MessageRow[]): Promise<Encoded[]> {
    const still = await lockClaimed(
      tx,
      rows.map((row) => row.id),
      this.token,
    )
    const state = await lockPeer(tx, peer)
    if (state === null) return []
    let seq = state.outSeq
    let prevHash: Uint8Array = state.outHash
    const encoded: Encoded[] = []
    const wanted = await this.consented(
      tx,
      peer,
      rows.filter((row) => still.has(row.id)),
    )
    for (const row of wanted) {
      const payload = encodePayload({
        v: 1,
        kind: row.kind as PayloadKind,
        id: row.id,
        seq: Number(seq),
        prevHash,
        issuedAt: row.createdAt.getTime(),
        contentDigest: row.contentDigest,
        body: row.body,
        ...(row.statement === null ? {} : { statement: row.statement }),
      })
      await keepPayload(tx, row.id, payload, seq, state.certificate)
      encoded.push({ ...row, payload: owned(payload), seq })
      prevHash = payloadHash(payload)
      seq += 1n
    }
    await tx.peer.update({ where: { fleetId: peer }, data: { outSeq: seq, outHash: owned(prevHash) } })
    return encoded
  }

  /**
   * A share may have waited long: without consent now, it ends before it has its place in the sequence. The consents
   * are held until the transaction ends, so that a withdrawal is either seen here or comes after the share.
   */
  private async consented(tx: Tx, peer: string, rows: readonly MessageRow[]): Promise<MessageRow[]> {
    if (!rows.some((row) => row.kind === 'document')) return [...rows]
    const consents = await consentsWith(tx, peer)
    const stands = (row: MessageRow) =>
      row.kind !== 'document' || isConsented(consents, 'share', row.signedKind as DocumentKind, this.app.clock.now())
    const ended = rows.filter((row) => !stands(row)).map((row) => row.id)
    if (ended.length > 0) {
      const refused = await refuseMessages(tx, ended, 'ConsentRequired', CONSENT_ENDED)
      await refuseShares(tx, refused, 'ConsentRequired', CONSENT_ENDED, now(this.app))
    }
    return rows.filter(stands)
  }

  async seal(rows: readonly Encoded[]): Promise<Sealed[]> {
    const sealed: Sealed[] = []
    for (const batch of batchesOf(rows, (row) => row.payload.length, this.app.limits)) {
      const good = await this.sealBatch(batch)
      if (good.length === 0) continue
      const ids = good.map((row) => row.id)
      await this.app.db.$transaction(async (tx) => {
        await markSealed(tx, ids, now(this.app))
        await advanceShares(this.app, tx, ids, 'sealed', now(this.app))
      })
      sealed.push(...good)
    }
    return sealed
  }

  private async sealBatch(batch: readonly Encoded[]): Promise<Sealed[]> {
    const item = (row: Encoded) => ({
      messageId: row.id,
      fleetId: row.peer,
      class: row.class as 'application' | 'control',
      payload: row.payload,
    })
    const answers = await this.ask(batch, async (rows) => (await this.app.rpc.call(sessionSeal, { items: rows.map(item) })).items)
    const good: Sealed[] = []
    for (const row of batch) {
      const answer = answers.get(row.id)
      if (answer === undefined) continue
      if (answer.ok) good.push({ ...row, envelope: answer.envelope })
      else await this.settle([row], answer)
    }
    return good
  }

  async send(rows: readonly Sealed[]): Promise<void> {
    for (const batch of batchesOf(rows, (row) => row.envelope.length, this.app.limits)) {
      const item = (row: Sealed) => ({ messageId: row.id, fleetId: row.peer, envelope: row.envelope })
      const answers = await this.ask(batch, async (rows) => (await this.app.rpc.call(relaySend, { items: rows.map(item) })).items)
      const sent: Array<{ row: Sealed; envelopeDigest: Uint8Array }> = []
      for (const row of batch) {
        const answer = answers.get(row.id)
        if (answer === undefined) continue
        if (answer.ok) sent.push({ row, envelopeDigest: answer.envelopeDigest })
        else await this.settle([row], answer)
      }
      if (sent.length > 0) await this.relayed(sent)
    }
  }

  private async relayed(sent: ReadonlyArray<{ row: Sealed; envelopeDigest: Uint8Array }>): Promise<void> {
    const at = now(this.app)
    const events = await this.app.db.$transaction(async (tx) => {
      const moved = await markRelayed(
        tx,
        sent.map(({ row, envelopeDigest }) => ({ id: row.id, envelopeDigest })),
        at,
        new Date(at.getTime() + this.app.limits.resendMaxMs),
      )
      await advanceShares(this.app, tx, [...moved], 'relayed', at)
      const found = []
      for (const { row } of sent) {
        if (!moved.has(row.id) || row.signedKind === null) continue
        found.push(
          ...(await recordSharing(tx, {
            type: 'MessageSent',
            peer: row.peer,
            messageId: row.id,
            documentId: row.documentId!,
            kind: row.signedKind as DocumentKind,
            contentDigest: row.contentDigest,
            at,
          })),
        )
      }
      await recordAuditEvents(tx, found)
      return found
    })
    if (events.length > 0) {
      this.app.wake.audit()
      this.app.wake.proofs()
    }
  }

  /**
   * Answers by message id. A service that is away makes the whole batch wait; any other fault may be about one message,
   * so the batch is asked again one by one and only that one waits.
   */
  private async ask<R extends MessageRow, A extends { messageId: string }>(
    batch: readonly R[],
    call: (rows: readonly R[]) => Promise<A[]>,
  ): Promise<Map<string, A>> {
    try {
      const answers = new Map((await call(batch)).map((answer) => [answer.messageId, answer]))
      await this.wait(
        batch.filter((row) => !answers.has(row.id)),
        { code: 'Internal', message: 'No answer came for this message.' },
      )
      return answers
    } catch (error) {
      if (batch.length > 1 && !isAway(error)) {
        const answers = new Map<string, A>()
        for (const row of batch) for (const [id, answer] of await this.ask([row], call)) answers.set(id, answer)
        return answers
      }
      await this.wait(batch, faultAsRefusal(error))
      return new Map()
    }
  }

  /**
   * A refusal: the end of the message, or a reason to wait. The peer is told at once that the position of a message that
   * ends here holds nothing; if that cannot be sent either, it is told when it misses it.
   */
  private async settle(rows: readonly MessageRow[], refusal: Reason): Promise<void> {
    if (!isFinal(refusal)) return await this.wait(rows, refusal)
    const ids = rows.map((row) => row.id)
    await this.app.db.$transaction(async (tx) => {
      const refused = await refuseMessages(tx, ids, refusal.code, refusal.message.slice(0, 300))
      await refuseShares(tx, refused, refusal.code, refusal.message.slice(0, 300), now(this.app))
      for (const row of rows) {
        if (!refused.includes(row.id) || row.seq === null || row.kind === 'receipt') continue
        if ((await lockPeer(tx, row.peer))?.state !== 'active') continue
        await enqueueStatus(this.app, tx, row.peer, now(this.app), [[Number(row.seq), Number(row.seq)]])
      }
    })
  }

  private async wait(rows: readonly MessageRow[], reason: Reason): Promise<void> {
    for (const row of rows) {
      const wait = waitAfter(reason, row.attempts, this.app.clock.now(), this.app.limits)
      await this.app.db.$transaction(async (tx) => {
        await postponeMessages(tx, [row.id], this.token, wait)
        await explainShares(tx, [row.id], { ...wait, attempts: row.attempts })
      })
    }
  }
}

function isEncoded(row: MessageRow): row is Encoded {
  return row.payload !== null
}
