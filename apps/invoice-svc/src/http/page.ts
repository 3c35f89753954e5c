/** Cursor pagination: newest first, the cursor is the id of the last item of the page before. */
import { z } from 'zod'
import { PAGE_DEFAULT, PAGE_MAX } from '../limits.js'

export const uuid = z.uuid().describe('UUIDv7')

export const pageQuery = {
  limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(PAGE_DEFAULT).describe('Items of one page'),
  after: z.uuid().optional().describe('`next` of the page before'),
}

export function pageOf<T extends z.ZodType>(item: T) {
  return z.strictObject({ items: z.array(item), next: z.string().nullable() })
}

/** @param rows one more than asked for, if there are more */
export function toPage<Row, View>(
  rows: readonly Row[],
  limit: number,
  view: (row: Row) => View,
  cursor: (row: Row) => string,
): { items: View[]; next: string | null } {
  const page = rows.slice(0, limit)
  const last = page.at(-1)
  return { items: page.map(view), next: rows.length > limit && last !== undefined ? cursor(last) : null }
}

export function iso(date: Date): string
export function iso(date: Date | null): string | null
export function iso(date: Date | null): string | null {
  return date === null ? null : date.toISOString()
}

export const time = z.iso.datetime({ precision: 3 }).describe('RFC 3339, UTC')
export const hexDigest = z.string().regex(/^[0-9a-f]{64}$/)

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

export function base64Url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url')
}

/** Prisma's Bytes are Uint8Arrays over an ArrayBuffer; what comes off the bus may be over anything. */
export function owned(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes)
}
