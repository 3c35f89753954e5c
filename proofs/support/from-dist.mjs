// Preloaded (`node --import`) into the processes that the proofs start: what they import of session-svc's sources comes
// from the built service, as in production, and only `TestFleet` itself is stripped of its types.
import { registerHooks } from 'node:module'

const SOURCES = '/apps/session-svc/src/'

registerHooks({
  resolve(specifier, context, next) {
    if (!specifier.startsWith('.') || context.parentURL === undefined) return next(specifier, context)
    const { href } = new URL(specifier, context.parentURL)
    return next(href.includes(SOURCES) ? href.replace(SOURCES, '/apps/session-svc/dist/') : specifier, context)
  },
})
