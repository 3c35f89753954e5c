/**
 * Document signatures with IK_sign. The signed bytes are built here, so that no caller can have anything else signed.
 *
 * KeyAccessed is audited at most once an hour and replica: each statement is itself the evidence that the key was used,
 * and an event per document would double the log without saying more.
 * @see docs/spec/documents.md §3
 */
import type { RequestOf, ResponseOf } from '@tallystick/contracts/call'
import type { sessionSignDocument } from '@tallystick/contracts/session'
import { ProtocolError } from '@tallystick/primitives/errors'
import { assembleStatement, encodeStatementPayload } from '@tallystick/wire/document'
import type { Context } from '../context.js'
import type { Identity } from '../identity/identity.js'
import { plainBytes } from '../plain-bytes.js'
import { refuse } from '../refuse.js'

const NONCE_BYTES = 32

export class DocumentSigner {
  readonly #context: Context
  readonly #identity: Identity
  #auditedAt = Number.NEGATIVE_INFINITY

  constructor(context: Context, identity: Identity) {
    this.#context = context
    this.#identity = identity
  }

  async sign(request: RequestOf<typeof sessionSignDocument>): Promise<ResponseOf<typeof sessionSignDocument>> {
    let payload: Uint8Array
    try {
      payload = encodeStatementPayload({ ...request, signer: this.#identity.fleetId, nonce: this.#context.random(NONCE_BYTES) })
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      return refuse(error.code === 'Serialization' ? 'InvalidRequest' : error.code, error.message)
    }
    await this.#auditAccess()
    // Directly before the signature: a replaced key signs nothing.
    await this.#identity.follow(this.#context.db)
    return { ok: true, statement: plainBytes(assembleStatement(payload, this.#identity.sign(payload))) }
  }

  async #auditAccess(): Promise<void> {
    const { clock, limits, db, audit } = this.#context
    const now = clock.now()
    if (Math.abs(now - this.#auditedAt) < limits.keyAccessAuditMs) return
    await audit.record(db, 'KeyAccessed', { keyKind: 'identity', purpose: 'document' })
    this.#auditedAt = now
    audit.committed()
  }
}
