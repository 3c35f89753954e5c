/**
 * After new identity keys: statements that were signed with the old key and have not gone into a payload yet are made
 * anew. A payload is never encoded twice; the receiver checks its statement against the certificate's succession.
 */
import type { App } from '../app.js'

/** @returns messages whose statement will be signed again */
export async function signAgain(app: Pick<App, 'db'>): Promise<number> {
  return await app.db.$executeRaw`
    UPDATE message SET statement = NULL, certificate = NULL WHERE state = 'queued' AND payload IS NULL AND statement IS NOT NULL`
}
