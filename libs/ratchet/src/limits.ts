/** Limits of the session protocol. @see docs/spec/session.md §9 */

/** Longest jump in message numbers that is followed, both chains of one step together: bounds the work of a forged header. */
export const MAX_JUMP = 1000

/** Most message keys kept for messages that are still on their way, per session; the oldest is evicted. */
export const MAX_SKIPPED = 1000

/** A kept message key is dropped after 14 days, as long as a signed prekey's private half is kept. */
export const MAX_SKIPPED_AGE_MS = 14 * 24 * 60 * 60 * 1000

/** Exporters kept, newest first: a rotation may name one that both sides had before messages crossed. */
export const MAX_EXPORTERS = 4

/** Message numbers of a chain stay below this: the count of messages must fit the header's `pn`. */
export const MAX_MESSAGE_NUMBER = 0xffff_ffff
