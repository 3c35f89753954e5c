import { createHash } from 'node:crypto'

export const canary = createHash
