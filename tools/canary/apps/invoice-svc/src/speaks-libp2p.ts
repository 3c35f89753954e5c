import { createLibp2p } from 'libp2p'

export const canary = createLibp2p
