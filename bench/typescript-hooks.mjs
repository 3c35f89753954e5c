// The test fleet of session-svc is TypeScript that names the sources beside it; what is measured is what was built from them.
import { registerHooks } from 'node:module'

const SOURCES = /^\.\.\/src\/(.+\.js)$/

registerHooks({
  resolve(specifier, context, next) {
    const source = context.parentURL?.includes('/apps/session-svc/test/') ? SOURCES.exec(specifier) : null
    return next(source === null ? specifier : `../dist/${source[1]}`, context)
  },
})
