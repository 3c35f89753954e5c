/**
 * The operations that are killed at each of their writes, and what must hold after the same call has been repeated by
 * a fresh process.
 */
import { decodeBundle } from '@tallystick/wire/bundle'
import { decodeEnvelope } from '@tallystick/wire/envelope'
import type { Opened, Taken } from './commands.ts'
import type { ReplicaProcess } from './replica-process.ts'
import { base64, fromBase64, openAt, sealAt, sealCommand, type Stage } from './stage.ts'

/** One call, always with the same ids. */
export interface Attempt {
  /** @returns what left the process, as text to compare */
  run(replica: ReplicaProcess): Promise<string>
  /**
   * After the call has been answered: checks it and leaves everything ready for the next attempt.
   * @param answers what `run` gave, each time it was answered
   * @returns what does not hold, in words
   */
  settle(replica: ReplicaProcess, answers: readonly string[]): Promise<string[]>
}

export interface Operation {
  readonly name: string
  /** Limits of acme and of its peer that make the operation the one it is. */
  readonly limits?: Readonly<Record<string, number>>
  readonly peerLimits?: Readonly<Record<string, number>>
  /** Once, before the first attempt. */
  ready(stage: Stage, replica: ReplicaProcess): Promise<void>
  prepare(stage: Stage, replica: ReplicaProcess): Promise<Attempt>
}

let texts = 0

/** The session exists and both sides have heard from each other. */
async function talk(stage: Stage, replica: ReplicaProcess): Promise<void> {
  const { peer, acme } = stage
  await peer.open(acme, await sealAt(replica, sealCommand(peer, 'first')))
  await openAt(replica, peer, await peer.seal(acme, 'answer'))
}

/** Same bytes each time, opened once at the peer, and a duplicate afterwards. */
async function delivered({ peer, acme }: Stage, text: string, answers: readonly string[]): Promise<string[]> {
  const wrong: string[] = []
  if (new Set(answers).size !== 1) wrong.push('a resend with other bytes')
  const envelope = fromBase64(answers[0]!)
  const opened = await peer.tryOpen(acme, envelope)
  if (!opened.ok) return [...wrong, `lost: the peer cannot open it (${opened.code})`]
  if (Buffer.from(opened.payload).toString() !== text) wrong.push('another text')
  await peer.acknowledge(envelope)
  const twice = await peer.tryOpen(acme, envelope)
  if (twice.ok || twice.code !== 'DuplicateMessage') wrong.push('opened twice at the peer')
  return wrong
}

const seal: Operation = {
  name: 'seal',
  async ready(stage, replica) {
    await talk(stage, replica)
    // In the middle of a sending chain: a state that falls back there repeats a key.
    await stage.peer.open(stage.acme, await sealAt(replica, sealCommand(stage.peer, 'second')))
  },
  async prepare(stage) {
    const text = `message ${++texts}`
    const command = sealCommand(stage.peer, text)
    return {
      run: async (replica) => base64(await sealAt(replica, command)),
      settle: async (replica, answers) => delivered(stage, text, [...answers, base64(await sealAt(replica, command))]),
    }
  },
}

const rotate: Operation = {
  name: 'rotate',
  limits: { rotateAfterMessages: 1 },
  ready: talk,
  async prepare(stage, replica) {
    const { peer, acme } = stage
    const { run, settle } = await seal.prepare(stage, replica)
    return {
      run,
      async settle(again, answers) {
        const wrong = await settle(again, answers)
        const { handshake } = decodeEnvelope(fromBase64(answers[0]!))
        if (!handshake) wrong.push('not the first message of an epoch')
        // The next epoch needs an answer in this one.
        await openAt(again, peer, await peer.seal(acme, 'answer', { class: 'control' }))
        return wrong
      },
    }
  },
}

const open: Operation = {
  name: 'open',
  ready: talk,
  prepare: async (stage) => opening(stage),
}

async function opening(stage: Stage): Promise<Attempt & { envelope: Uint8Array }> {
  const { peer, acme } = stage
  const text = `message ${++texts}`
  const envelope = await peer.seal(acme, text)
  return {
    envelope,
    run: (replica) => openAt(replica, peer, envelope),
    async settle(replica, answers) {
      const wrong: string[] = []
      if ([...answers, await openAt(replica, peer, envelope)].some((answer) => answer !== text)) wrong.push('another text')
      await replica.call({ do: 'acknowledge', envelope: base64(envelope) })
      const twice = await replica.call<Opened>({ do: 'open', peer: peer.id, envelope: base64(envelope) })
      if (twice.ok || twice.code !== 'DuplicateMessage') wrong.push('opened again after the acknowledgement')
      return wrong
    },
  }
}

/** The peer begins an epoch with each message: opening one uses up one-time prekeys. */
const consume: Operation = {
  name: 'consume prekeys',
  peerLimits: { rotateAfterMessages: 1 },
  ready: talk,
  async prepare(stage) {
    const { peer, acme } = stage
    const { run, settle, envelope } = await opening(stage)
    const { handshake } = decodeEnvelope(envelope)
    const ids = [handshake?.opkId, handshake?.pqId].filter((id) => id !== undefined)
    return {
      run,
      async settle(replica, answers) {
        const wrong = await settle(replica, answers)
        if (ids.length !== 2 || handshake?.pqKind !== 'one-time') wrong.push('the handshake uses no one-time prekeys')
        if ((await prekeysLeft(stage, ids)) > 0) wrong.push('a used one-time prekey is still there')
        const { row } = await sessionOf(stage, handshake!.ek)
        if (row !== 1) wrong.push(`the handshake has started ${row} sessions`)
        await peer.open(acme, await sealAt(replica, { ...sealCommand(peer, 'answer'), class: 'control' }))
        return wrong
      },
    }
  },
}

const acknowledge: Operation = {
  name: 'acknowledge',
  ready: talk,
  async prepare(stage, replica) {
    const { settle, envelope } = await opening(stage)
    const text = await openAt(replica, stage.peer, envelope)
    const command = { do: 'acknowledge', envelope: base64(envelope) } as const
    return {
      run: async (again) => JSON.stringify(await again.call(command)),
      async settle(again) {
        const opened = await again.call<Opened>({ do: 'open', peer: stage.peer.id, envelope: base64(envelope) })
        if (opened.ok) return [`still answered after the acknowledgement: ${opened.text}`]
        return opened.code === 'DuplicateMessage' && text !== ''
          ? []
          : [`${opened.code} after the acknowledgement`, ...(await settle(again, []))]
      },
    }
  },
}

/** Handing out has no message id: what counts is that no key goes out twice, whatever became of the answer. */
const handOut: Operation = {
  name: 'hand out prekeys',
  // One peer takes them all here, far more than it may hold unused.
  limits: { handedOutPerPeer: 10_000 },
  ready: talk,
  async prepare(stage) {
    const take = async (replica: ReplicaProcess): Promise<string> => {
      const taken = await replica.call<Taken>({ do: 'take', peer: stage.peer.id })
      if (!taken.ok) throw new Error(`no bundle: ${taken.code}`)
      return taken.bundle
    }
    return {
      run: take,
      async settle(replica, answers) {
        const ids = [...answers, await take(replica)]
          .map((bundle) => decodeBundle(fromBase64(bundle)))
          .flatMap(({ opk, pq }) => [opk?.id, pq.id])
        const wrong = ids.includes(undefined) ? ['a bundle without a one-time key'] : []
        for (const id of ids) {
          if (stage.handedOut.has(id!)) wrong.push(`prekey ${id} was handed out twice`)
          stage.handedOut.add(id!)
        }
        return wrong
      },
    }
  },
}

export const OPERATIONS = { seal, rotate, open, consume, acknowledge, handOut } satisfies Record<string, Operation>

async function prekeysLeft(stage: Stage, ids: readonly number[]): Promise<number> {
  return (await stage.query<{ left: number }>('SELECT count(*)::int AS left FROM session.prekey WHERE id = ANY($1)', [ids]))[0]!.left
}

async function sessionOf(stage: Stage, ephemeralKey: Uint8Array): Promise<{ row: number }> {
  const text = 'SELECT count(*)::int AS row FROM session.session WHERE ephemeral_key = $1'
  return (await stage.query<{ row: number }>(text, [Buffer.from(ephemeralKey)]))[0]!
}
