/** The bus side of audit-svc: one method per contract, thin. */
import { Controller, Inject } from '@nestjs/common'
import {
  auditAppend,
  auditCheckpoint,
  auditConsistency,
  auditEvents,
  auditIdentity,
  auditInclusion,
  auditTile,
} from '@tallystick/contracts/audit'
import type { RequestOf, ResponseOf } from '@tallystick/contracts/call'
import type { Refusal } from '@tallystick/contracts/codes'
import { readCheckpoint } from '@tallystick/merkle-log/checkpoint'
import { encodeVkey, verifierKey } from '@tallystick/merkle-log/note'
import type { CallContext } from '@tallystick/nats-rpc/context'
import { Handles } from '@tallystick/nats-rpc/handles'
import { ProtocolError } from '@tallystick/primitives/errors'
import { Appender } from './appender.js'
import { CheckpointLoop } from './checkpoint-loop.js'
import { Halt } from './halt.js'
import { Proofs } from './proofs.js'

/** Public key of the log, as an injection token. */
export const LOG_PUBLIC_KEY = Symbol('log public key')

/** The contracts' byte type; views over anything but an ArrayBuffer are copied. */
const bytes = (given: Uint8Array): Uint8Array<ArrayBuffer> =>
  given.buffer instanceof ArrayBuffer ? (given as Uint8Array<ArrayBuffer>) : new Uint8Array(given)

const notFound = (message: string): Refusal => ({ ok: false, code: 'NotFound', message })

@Controller()
export class AuditController {
  constructor(
    @Inject(LOG_PUBLIC_KEY) private readonly publicKey: Uint8Array,
    @Inject(Appender) private readonly appender: Appender,
    @Inject(Proofs) private readonly proofs: Proofs,
    @Inject(Halt) private readonly halt: Halt,
    @Inject(CheckpointLoop) private readonly loop: CheckpointLoop,
  ) {}

  @Handles(auditIdentity)
  async identity(_request: RequestOf<typeof auditIdentity>, context: CallContext): Promise<ResponseOf<typeof auditIdentity>> {
    if (context.caller === 'session-svc') this.loop.sessionHeard()
    return { ok: true, publicKey: bytes(this.publicKey) }
  }

  @Handles(auditAppend)
  append({ events }: RequestOf<typeof auditAppend>): Promise<ResponseOf<typeof auditAppend>> {
    return this.appender.append(events)
  }

  @Handles(auditCheckpoint)
  async checkpoint(): Promise<ResponseOf<typeof auditCheckpoint>> {
    const checkpoint = await this.proofs.newestCheckpoint()
    if (checkpoint === undefined) return { ok: false, code: 'NotReady', message: 'no checkpoint has been signed yet' }
    return { ok: true, note: checkpoint.note, size: checkpoint.size, rootHash: bytes(checkpoint.root), vkey: this.#vkey(checkpoint.note) }
  }

  @Handles(auditInclusion)
  async inclusion({ eventId }: RequestOf<typeof auditInclusion>): Promise<ResponseOf<typeof auditInclusion>> {
    const found = await this.halt.guard(() => this.proofs.inclusion(eventId))
    if (found === undefined) return notFound('the event is under no checkpoint')
    const { leaf, index, proof, checkpoint } = found
    return {
      ok: true,
      leaf: bytes(leaf),
      index,
      size: checkpoint.size,
      proof: proof.map(bytes),
      note: checkpoint.note,
      vkey: this.#vkey(checkpoint.note),
    }
  }

  @Handles(auditConsistency)
  async consistency({ from, to }: RequestOf<typeof auditConsistency>): Promise<ResponseOf<typeof auditConsistency>> {
    const found = await this.halt.guard(() => this.proofs.consistency(from, to))
    if (found === undefined) return notFound('from ≤ to ≤ size of the log must hold')
    return { ok: true, proof: found.proof.map(bytes), fromRoot: bytes(found.fromRoot), toRoot: bytes(found.toRoot) }
  }

  @Handles(auditEvents)
  async events({ after, limit, stream }: RequestOf<typeof auditEvents>): Promise<ResponseOf<typeof auditEvents>> {
    const items = await this.halt.guard(() => this.proofs.events(after, limit, stream))
    return { ok: true, items: items.map(({ index, leafHash, event }) => ({ index, leafHash: bytes(leafHash), event })) }
  }

  @Handles(auditTile)
  async tile({ path }: RequestOf<typeof auditTile>): Promise<ResponseOf<typeof auditTile>> {
    try {
      const tile = await this.halt.guard(() => this.proofs.tile(path))
      return tile === undefined ? notFound('no such tile under the newest checkpoint') : { ok: true, bytes: bytes(tile) }
    } catch (error) {
      if (error instanceof ProtocolError && error.code === 'Serialization') return notFound('not a tile path')
      throw error
    }
  }

  #vkey(note: string): string {
    return encodeVkey(verifierKey(readCheckpoint(note).origin, this.publicKey))
  }
}
