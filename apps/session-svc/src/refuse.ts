import type { ErrorCode, Refusal } from '@tallystick/contracts/codes'

/** A business refusal. `retryAfterMs` says that time alone may mend it; without it the same request is refused again. */
export function refuse(code: ErrorCode, message: string, retryAfterMs?: number): Refusal {
  const refusal = { ok: false as const, code, message: message.slice(0, 500) }
  return retryAfterMs === undefined ? refusal : { ...refusal, retryAfterMs: Math.ceil(retryAfterMs) }
}
