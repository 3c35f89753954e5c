/** SoftHSM2, a PKCS#11 token in software, for the tests of custody in a token: found or fetched, never installed. */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { unpackDebianPackages } from './debian-package.ts'
import { CACHE } from './paths.ts'

const WAYS = `Ways to get SoftHSM 2 (BSD-2-Clause):
  - set SOFTHSM2_MODULE to its library, libsofthsm2.so
  - Debian and Ubuntu: apt-get install libsofthsm2; Fedora: dnf install softhsm; macOS: brew install softhsm
  - copy the library to .cache/softhsm/libsofthsm2.so`

const CACHED = path.join(CACHE, 'softhsm', 'libsofthsm2.so')
const USUAL = [
  '/usr/lib/softhsm/libsofthsm2.so',
  '/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/lib64/pkcs11/libsofthsm2.so',
  '/usr/local/lib/softhsm/libsofthsm2.so',
  '/opt/homebrew/lib/softhsm/libsofthsm2.so',
]

/**
 * Path of SoftHSM's library. In this order: SOFTHSM2_MODULE, the system's places, the copy in `.cache`, Debian's
 * package unpacked without installing it.
 * @throws with the ways to get it
 */
export function findSoftHsm(say: (text: string) => void = () => undefined): string {
  const named = process.env.SOFTHSM2_MODULE
  if (named !== undefined && named !== '') {
    if (existsSync(named)) return path.resolve(named)
    throw new Error(`SOFTHSM2_MODULE is "${named}", which does not exist.\n${WAYS}`)
  }
  const found = [...USUAL, CACHED].find((file) => existsSync(file))
  if (found !== undefined) return found
  say('fetching SoftHSM from the Debian archive (once; nothing is installed)')
  try {
    unpackDebianPackages(['libsofthsm2'], (folder) => {
      const library = ['usr/lib/softhsm/libsofthsm2.so', 'usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so']
        .map((file) => path.join(folder, file))
        .find((file) => existsSync(file))
      if (library === undefined) throw new Error('the package holds no libsofthsm2.so')
      mkdirSync(path.dirname(CACHED), { recursive: true })
      const half = `${CACHED}.${process.pid}`
      copyFileSync(library, half)
      renameSync(half, CACHED)
    })
  } catch (error) {
    throw new Error(`SoftHSM was not found, and could not be fetched: ${(error as Error).message.split('\n')[0]}\n${WAYS}`, {
      cause: error,
    })
  }
  return CACHED
}

/** The calls of pkcs11js that make a token ready. */
interface TokenSetup {
  load(module: string): void
  close(): void
  C_Initialize(): void
  C_Finalize(): void
  C_GetSlotList(tokenPresent: boolean): Buffer[]
  C_GetTokenInfo(slot: Buffer): { label: string }
  C_InitToken(slot: Buffer, pin: string, label: string): void
  C_OpenSession(slot: Buffer, flags: number): Buffer
  C_CloseSession(session: Buffer): void
  C_Login(session: Buffer, user: number, pin: string): void
  C_InitPIN(session: Buffer, pin: string): void
}
interface Library {
  PKCS11: new () => TokenSetup
  CKF_SERIAL_SESSION: number
  CKF_RW_SESSION: number
  CKU_SO: number
}

export interface SoftHsm {
  readonly module: string
  readonly pin: string
  /** For processes that use the same tokens: SOFTHSM2_CONF. */
  readonly config: string
  /** A fresh, empty token. Only while nobody has the library open: it reads its list of tokens when it is initialised. */
  makeToken(label: string): void
  remove(): void
}

/**
 * A folder of tokens with a configuration of its own; sets SOFTHSM2_CONF for this process.
 * @throws when the library or pkcs11js is missing, with what to do
 */
export function openSoftHsm(say?: (text: string) => void): SoftHsm {
  const module = findSoftHsm(say)
  let lib: Library
  try {
    lib = createRequire(import.meta.url)('pkcs11js') as Library
  } catch (error) {
    throw new Error('the optional package pkcs11js is not there: install a C++ compiler and Python 3, then run `npm ci` again', {
      cause: error,
    })
  }
  const folder = mkdtempSync(path.join(os.tmpdir(), 'tallystick-softhsm-'))
  const config = path.join(folder, 'softhsm2.conf')
  mkdirSync(path.join(folder, 'tokens'))
  writeFileSync(config, `directories.tokendir = ${path.join(folder, 'tokens')}\nobjectstore.backend = file\nlog.level = ERROR\n`)
  process.env.SOFTHSM2_CONF = config
  const pin = '31415926'
  return {
    module,
    pin,
    config,
    makeToken: (label) => initialise(lib, module, label, pin),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

/** What `softhsm2-util --init-token` does, by the standard's own calls. */
function initialise(lib: Library, module: string, label: string, pin: string): void {
  const officer = 'so-27182818'
  const pkcs11 = new lib.PKCS11()
  pkcs11.load(module)
  pkcs11.C_Initialize()
  try {
    const unused = pkcs11.C_GetSlotList(false).at(-1)
    if (unused === undefined) throw new Error('SoftHSM offers no slot')
    pkcs11.C_InitToken(unused, officer, label)
    const slot = pkcs11.C_GetSlotList(true).find((candidate) => pkcs11.C_GetTokenInfo(candidate).label.replace(/[\0 ]+$/, '') === label)
    if (slot === undefined) throw new Error('SoftHSM does not show the token that was made')
    const session = pkcs11.C_OpenSession(slot, lib.CKF_SERIAL_SESSION | lib.CKF_RW_SESSION)
    pkcs11.C_Login(session, lib.CKU_SO, officer)
    pkcs11.C_InitPIN(session, pin)
    pkcs11.C_CloseSession(session)
  } finally {
    pkcs11.C_Finalize()
    pkcs11.close()
  }
}

/** Whether this machine can run the tests of tokens; the reason when it cannot. */
export function softHsmMissing(): string | undefined {
  try {
    openSoftHsm().remove()
    return undefined
  } catch (error) {
    return (error as Error).message.split('\n')[0]
  }
}
