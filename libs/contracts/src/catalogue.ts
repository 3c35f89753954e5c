/** Every inter-service call there is. NATS permissions, metrics targets and the docs table come from this list. */
import { AUDIT_CONTRACTS } from './audit.js'
import type { Contract } from './call.js'
import { INVOICE_CONTRACTS } from './invoice.js'
import { RELAY_CONTRACTS } from './relay.js'
import { SESSION_CONTRACTS } from './session.js'

export const CATALOGUE: readonly Contract[] = [...SESSION_CONTRACTS, ...RELAY_CONTRACTS, ...INVOICE_CONTRACTS, ...AUDIT_CONTRACTS]
