import { decrypt } from '@tallystick/ratchet/double-ratchet'

export const canary = decrypt
