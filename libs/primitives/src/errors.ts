/** The one error of the protocol layer; defined in secret-bytes because that is the lowest layer that can fail. */
export { ProtocolError, PROTOCOL_ERROR_CODES } from '@tallystick/secret-bytes/errors'
export type { KeyStorageReason, ProtocolErrorCode, ProtocolErrorDetails } from '@tallystick/secret-bytes/errors'
