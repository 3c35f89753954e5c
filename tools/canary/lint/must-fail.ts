// Each statement below breaks one lint rule of the project. tools/check.mjs fails when one of them is no longer reported.
import { createHash } from 'node:crypto'

export * from './other.js'

export interface Invoice {
  totalAmount: number
}

declare const db: { $queryRawUnsafe(sql: string): Promise<unknown[]> }

export function floating(): void {
  db.$queryRawUnsafe('SELECT 1')
}

export function weak(input: string): string {
  try {
    return createHash('md5').update(input + Math.random()).digest('hex')
  } catch {}
  return ''
}

export const loose: any = 1
