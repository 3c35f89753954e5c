/**
 * One logged-in session with a PKCS#11 token. Calls are synchronous and block the process: with a token in the machine
 * a signature takes a fraction of a millisecond, over a network as long as the way there and back.
 * @see docs/spec/custody.md §2
 */
import { ProtocolError } from '@tallystick/primitives/errors'
import { type SecretArena, type SecretBytes, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import { codeOf, type Handle, loadPkcs11, type Pkcs11, type Pkcs11Library } from './pkcs11.js'

/** CKR_… of PKCS#11 2.40 that say that the session is gone and a new one may work. */
const LOST = new Set([0x30, 0x32, 0xb0, 0xb3, 0xe0, 0x101])
const CKR_USER_ALREADY_LOGGED_IN = 0x100
const CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191
/** The PIN is wrong, expired, of a wrong length, or locked: trying again would only lock the token. */
const PIN_REFUSED = new Set([0xa0, 0xa1, 0xa2, 0xa3, 0xa4])

/** Libraries are initialised once per process, and finalised when nobody uses them any more. */
const loaded = new Map<string, { pkcs11: Pkcs11; users: number }>()

export interface TokenAccess {
  /** Path of the token's shared library. */
  readonly module: string
  /** Label of the token. */
  readonly token: string
  /** Wiped here. */
  readonly pin: Uint8Array
}

export class TokenSession {
  readonly lib: Pkcs11Library
  readonly #module: string
  readonly #label: string
  readonly #pin: SecretBytes
  #open: { pkcs11: Pkcs11; session: Handle } | undefined

  /** @throws ProtocolError KeyStorage(accessControlFailed) when pkcs11js is not installed */
  constructor(arena: SecretArena, access: TokenAccess) {
    this.#module = access.module
    this.#label = access.token
    this.#pin = secretFrom(arena, access.pin)
    try {
      this.lib = loadPkcs11()
    } catch (error) {
      this.#pin.destroy()
      throw error
    }
  }

  /**
   * @param fn must not keep handles: they are of no use after a reconnection
   * @throws ProtocolError KeyStorage(locked) when the token cannot be reached; KeyStorage(accessControlFailed) when it refuses the PIN
   */
  use<T>(fn: (pkcs11: Pkcs11, session: Handle, lib: Pkcs11Library) => T): T {
    const fresh = this.#open === undefined
    try {
      return this.#attempt(fn)
    } catch (error) {
      if (fresh || !LOST.has(codeOf(error) ?? 0)) throw this.#describe(error)
    }
    // The token was pulled, restarted, or timed the session out: once more from the beginning.
    try {
      return this.#attempt(fn)
    } catch (error) {
      throw this.#describe(error)
    }
  }

  close(): void {
    this.#disconnect()
    this.#pin.destroy()
  }

  #attempt<T>(fn: (pkcs11: Pkcs11, session: Handle, lib: Pkcs11Library) => T): T {
    const { pkcs11, session } = this.#connect()
    try {
      return fn(pkcs11, session, this.lib)
    } catch (error) {
      // An operation may be half done in it: the next call begins with a session of its own.
      this.#disconnect()
      throw error
    }
  }

  #connect(): { pkcs11: Pkcs11; session: Handle } {
    if (this.#open) return this.#open
    const { lib } = this
    const pkcs11 = acquire(this.#module, lib)
    try {
      const slot = pkcs11.C_GetSlotList(true).find((candidate) => labelOf(pkcs11, candidate) === this.#label)
      if (slot === undefined) throw locked(`no token with the label "${this.#label}" is present in ${this.#module}`)
      const session = pkcs11.C_OpenSession(slot, lib.CKF_SERIAL_SESSION | lib.CKF_RW_SESSION)
      this.#login(pkcs11, session)
      this.#open = { pkcs11, session }
      return this.#open
    } catch (error) {
      release(this.#module)
      throw this.#describe(error)
    }
  }

  #login(pkcs11: Pkcs11, session: Handle): void {
    try {
      // pkcs11js takes the PIN as a string, which stays on the heap until it is collected. See docs/memory.md.
      pkcs11.C_Login(session, this.lib.CKU_USER, withSecret(this.#pin, pinText))
    } catch (error) {
      if (codeOf(error) === CKR_USER_ALREADY_LOGGED_IN) return
      pkcs11.C_CloseSession(session)
      throw error
    }
  }

  #disconnect(): void {
    const open = this.#open
    this.#open = undefined
    if (!open) return
    try {
      open.pkcs11.C_CloseSession(open.session)
    } catch (error) {
      if (codeOf(error) === undefined) throw error // a token that is gone closes nothing
    }
    release(this.#module)
  }

  #describe(error: unknown): unknown {
    const code = codeOf(error)
    if (code === undefined) return error
    const name = (error as Error).message
    return PIN_REFUSED.has(code)
      ? new ProtocolError('KeyStorage', `the token "${this.#label}" refuses the PIN of the secret "pkcs11.pin" (${name})`, {
          reason: 'accessControlFailed',
          cause: error,
        })
      : locked(`the token "${this.#label}" does not do what was asked (${name})`, error)
  }
}

function acquire(module: string, lib: Pkcs11Library): Pkcs11 {
  const known = loaded.get(module)
  if (known) {
    known.users += 1
    return known.pkcs11
  }
  const pkcs11 = new lib.PKCS11()
  try {
    pkcs11.load(module)
  } catch (cause) {
    throw new ProtocolError('KeyStorage', `TALLYSTICK_PKCS11_MODULE: ${module} is not a library that can be loaded`, {
      reason: 'accessControlFailed',
      cause,
    })
  }
  try {
    pkcs11.C_Initialize()
  } catch (error) {
    if (codeOf(error) !== CKR_CRYPTOKI_ALREADY_INITIALIZED) throw error
  }
  loaded.set(module, { pkcs11, users: 1 })
  return pkcs11
}

function release(module: string): void {
  const known = loaded.get(module)
  if (!known || --known.users > 0) return
  loaded.delete(module)
  known.pkcs11.C_Finalize()
  known.pkcs11.close()
}

/** 32 characters, filled up with blanks by the standard and with zero bytes by some. */
function labelOf(pkcs11: Pkcs11, slot: Handle): string {
  return pkcs11.C_GetTokenInfo(slot).label.replace(/[\0 ]+$/, '')
}

function pinText(pin: Uint8Array): string {
  return Buffer.from(pin.buffer, pin.byteOffset, pin.length).toString('utf8').trim()
}

function locked(message: string, cause?: unknown): ProtocolError {
  return new ProtocolError('KeyStorage', message, { reason: 'locked', cause })
}
