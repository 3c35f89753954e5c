import { canary as other } from '../../relay-svc/src/imports-ratchet.js'

export const canary = other
