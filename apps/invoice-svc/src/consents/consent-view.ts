/** A consent as the API shows it. */
import { CONSENT_KINDS } from '@tallystick/invoice-domain/consent'
import { z } from 'zod'
import { iso, time, uuid } from '../http/page.js'
import type { ConsentRow } from './consent.store.js'

export const consentPurpose = z.enum(['share', 'log'])

export const consentSchema = z
  .strictObject({
    id: uuid,
    consentId: uuid,
    peerId: z.string(),
    purpose: consentPurpose,
    kinds: z.array(z.enum(CONSENT_KINDS as unknown as [string, ...string[]])),
    grantedAt: time,
    grantedBy: z.string(),
    expiresAt: time.nullable(),
    withdrawnAt: time.nullable(),
    active: z.boolean(),
  })
  .meta({ id: 'Consent' })
export type ConsentView = z.output<typeof consentSchema>

export function consentView(row: ConsentRow, at: Date): ConsentView {
  return {
    id: row.id,
    consentId: row.id,
    peerId: row.peer,
    purpose: row.purpose as 'share' | 'log',
    kinds: row.kinds,
    grantedAt: iso(row.grantedAt),
    grantedBy: row.grantedBy,
    expiresAt: iso(row.expiresAt),
    withdrawnAt: iso(row.withdrawnAt),
    active: row.withdrawnAt === null && (row.expiresAt === null || row.expiresAt > at),
  }
}
