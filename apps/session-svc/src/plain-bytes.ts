/**
 * Database columns and bus messages are typed as bytes on an `ArrayBuffer`; the protocol libraries promise less. Bytes
 * on shared memory, which nothing here makes, would be copied; all others pass as they are.
 */
export function plainBytes(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes)
}
