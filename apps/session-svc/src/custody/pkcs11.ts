/**
 * The part of pkcs11js that is used here, in types of its own: the package is optional, and its absence must not keep
 * the service from compiling.
 */
import { createRequire } from 'node:module'
import { ProtocolError } from '@tallystick/primitives/errors'

/** Opaque. */
export type Handle = Buffer

export type Attribute = { readonly type: number; readonly value: number | boolean | string | Buffer }

export interface Mechanism {
  readonly mechanism: number
  readonly parameter?: {
    readonly type: number
    readonly iv: Buffer
    readonly ivBits: number
    readonly aad: Buffer
    readonly tagBits: number
  }
}

export interface Pkcs11 {
  load(module: string): void
  close(): void
  C_Initialize(): void
  C_Finalize(): void
  C_GetSlotList(tokenPresent: boolean): Handle[]
  C_GetTokenInfo(slot: Handle): { label: string }
  C_OpenSession(slot: Handle, flags: number): Handle
  C_CloseSession(session: Handle): void
  C_Login(session: Handle, userType: number, pin: string): void
  C_FindObjectsInit(session: Handle, template: readonly Attribute[]): void
  C_FindObjects(session: Handle, most: number): Handle[]
  C_FindObjectsFinal(session: Handle): void
  C_GetAttributeValue(session: Handle, object: Handle, types: readonly { type: number }[]): { type: number; value: Buffer }[]
  C_DestroyObject(session: Handle, object: Handle): void
  C_GenerateKey(session: Handle, mechanism: Mechanism, template: readonly Attribute[]): Handle
  C_GenerateKeyPair(
    session: Handle,
    mechanism: Mechanism,
    publicTemplate: readonly Attribute[],
    privateTemplate: readonly Attribute[],
  ): { publicKey: Handle; privateKey: Handle }
  C_EncryptInit(session: Handle, mechanism: Mechanism, key: Handle): void
  C_Encrypt(session: Handle, input: Buffer, output: Buffer): Buffer
  C_DecryptInit(session: Handle, mechanism: Mechanism, key: Handle): void
  C_Decrypt(session: Handle, input: Buffer, output: Buffer): Buffer
  C_SignInit(session: Handle, mechanism: Mechanism, key: Handle): void
  C_Sign(session: Handle, input: Buffer, output: Buffer): Buffer
}

type Constant =
  | 'CKA_CLASS'
  | 'CKA_DECRYPT'
  | 'CKA_EC_PARAMS'
  | 'CKA_EC_POINT'
  | 'CKA_ENCRYPT'
  | 'CKA_EXTRACTABLE'
  | 'CKA_ID'
  | 'CKA_KEY_TYPE'
  | 'CKA_LABEL'
  | 'CKA_PRIVATE'
  | 'CKA_SENSITIVE'
  | 'CKA_SIGN'
  | 'CKA_TOKEN'
  | 'CKA_UNWRAP'
  | 'CKA_VALUE_LEN'
  | 'CKA_VERIFY'
  | 'CKA_WRAP'
  | 'CKF_RW_SESSION'
  | 'CKF_SERIAL_SESSION'
  | 'CKK_AES'
  | 'CKM_AES_GCM'
  | 'CKM_AES_KEY_GEN'
  | 'CKO_PRIVATE_KEY'
  | 'CKO_PUBLIC_KEY'
  | 'CKO_SECRET_KEY'
  | 'CKU_USER'
  | 'CK_PARAMS_AES_GCM_v240'

export type Pkcs11Library = { readonly PKCS11: new () => Pkcs11 } & { readonly [K in Constant]: number }

/** @throws ProtocolError KeyStorage(accessControlFailed) with what to do when the optional package is not there */
export function loadPkcs11(): Pkcs11Library {
  try {
    return createRequire(import.meta.url)('pkcs11js') as Pkcs11Library
  } catch (cause) {
    throw new ProtocolError(
      'KeyStorage',
      'TALLYSTICK_CUSTODY=pkcs11 needs the optional package pkcs11js, which could not be loaded: install a C++ compiler and Python 3, then run `npm ci` again',
      { reason: 'accessControlFailed', cause },
    )
  }
}

/** The number of a PKCS#11 error; undefined for any other. */
export function codeOf(error: unknown): number | undefined {
  return error instanceof Error && error.name === 'Pkcs11Error' ? (error as Error & { code: number }).code : undefined
}
