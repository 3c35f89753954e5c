/** Waiting for something to happen in a fleet: its event stream says when to look, a slow look now and then is the fallback. */
import http from 'node:http'
import type { FleetInfo } from '../fleet/layout.ts'

/** Far below the API's limit of 100 a minute for one endpoint. */
const LOOK_EVERY_MS = 2_000

/**
 * @param look returns what was waited for, or undefined; called at once, at each event and every two seconds
 * @throws when it did not come within `withinMs`; `look` may throw to give up
 */
export async function waitInFleet<T>(
  fleet: FleetInfo,
  what: string,
  look: () => Promise<T | undefined>,
  options: { signal: AbortSignal; withinMs: number; describe?: () => string },
): Promise<T> {
  const close = new AbortController()
  const signal = AbortSignal.any([options.signal, close.signal])
  let wake: () => void = () => undefined
  let pending = false
  let events: Promise<void> | undefined
  const deadline = Date.now() + options.withinMs
  try {
    for (;;) {
      options.signal.throwIfAborted()
      pending = false
      const found = await look()
      if (found !== undefined) return found
      events ??= followEvents(fleet, signal, () => {
        pending = true
        wake()
      })
      if (Date.now() > deadline)
        throw new Error(
          `${what} did not happen within ${options.withinMs / 1000} s${options.describe === undefined ? '' : `: ${options.describe()}`}`,
        )
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, LOOK_EVERY_MS)
        wake = () => {
          clearTimeout(timer)
          resolve()
        }
        options.signal.addEventListener('abort', wake, { once: true })
        if (pending) wake()
      })
    }
  } finally {
    close.abort()
    await events
  }
}

/** Ends with `signal`, or when the stream breaks: the regular look goes on. */
function followEvents(fleet: FleetInfo, signal: AbortSignal, onEvent: () => void): Promise<void> {
  return new Promise((resolve) => {
    // A connection of its own: `fetch` would open another one when this is cut, which the service then waits for at its end.
    const request = http.get(`${fleet.api.url}/v1/events`, {
      agent: false,
      signal,
      headers: { authorization: `Bearer ${fleet.api.tokens.admin}`, accept: 'text/event-stream' },
    })
    request.once('error', () => resolve())
    request.once('close', () => resolve())
    request.once('response', (response) => {
      onEvent() // what happened before the stream stood is seen by this look
      response.setEncoding('utf8')
      response.on('data', (text: string) => {
        if (/^event:/m.test(text)) onEvent()
      })
      response.once('error', () => resolve())
    })
  })
}
