/** NATS permissions of each service, derived from the catalogue: the walls between services at run time. */
import type { Contract, ServiceName } from '@tallystick/contracts/call'

export interface NatsPermissions {
  readonly publish: { readonly allow: readonly string[] }
  readonly subscribe: { readonly allow: readonly string[] }
  readonly allow_responses: { readonly max: number; readonly expires: string }
}

/** One request, one reply: a batch is answered in one message. */
export const RESPONSES_PER_REQUEST = 1
/** How long a responder may still answer, seconds: twice the longest deadline of the catalogue, see the spec file. */
export const RESPONSE_EXPIRES_SECONDS = 60

/** Said by a service when its handlers are subscribed: a hint that may be lost. @see docs/spec/bus.md §5 */
export function arrivalSubject(service: ServiceName | '*'): string {
  return `arrival.v1.${service}`
}

/** Replies to a service's calls come here; nobody else may listen. */
export function inboxPrefix(service: ServiceName): string {
  return `_INBOX_${service}`
}

/**
 * @param service whose user it is
 * @param catalogue every contract there is
 * @returns publish only what it may call and its own arrival, subscribe only what it owns, its own inbox and the
 *   arrivals of others, answer what it was asked
 * @see docs/spec/bus.md §6
 */
export function permissionsFor(service: ServiceName, catalogue: readonly Contract[]): NatsPermissions {
  const subjectsOf = (wanted: (c: Contract) => boolean) =>
    catalogue
      .filter(wanted)
      .map((c) => c.subject)
      .sort()
  return {
    publish: { allow: [...subjectsOf((c) => c.callers.includes(service)), arrivalSubject(service)] },
    subscribe: { allow: [...subjectsOf((c) => c.owner === service), `${inboxPrefix(service)}.>`, arrivalSubject('*')] },
    allow_responses: { max: RESPONSES_PER_REQUEST, expires: `${RESPONSE_EXPIRES_SECONDS}s` },
  }
}
