/** Ids of this service: UUIDv7, so that they sort by the time they were made. */
import { randomUUIDv7 } from 'node:crypto'

export function newId(): string {
  return randomUUIDv7()
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

export function isId(text: string): boolean {
  return UUID.test(text)
}
