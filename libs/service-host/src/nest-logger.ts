/** Nest's own messages through the service's logger: at debug level, since they tell of wiring, not of work. */
import type { LoggerService } from '@nestjs/common'
import type { Logger } from 'pino'

export function nestLogger(log: Logger): LoggerService {
  const what = (rest: unknown[]) => {
    const context = rest.at(-1)
    return typeof context === 'string' && context.length < 80 ? { what: context } : {}
  }
  const fields = (message: unknown, rest: unknown[]) => (message instanceof Error ? { ...what(rest), err: message } : what(rest))
  const text = (message: unknown) => (typeof message === 'string' ? message : message instanceof Error ? 'Nest reports an error' : 'Nest')
  return {
    log: (message: unknown, ...rest: unknown[]) => log.debug(fields(message, rest), text(message)),
    debug: (message: unknown, ...rest: unknown[]) => log.debug(fields(message, rest), text(message)),
    verbose: (message: unknown, ...rest: unknown[]) => log.trace(fields(message, rest), text(message)),
    warn: (message: unknown, ...rest: unknown[]) => log.warn(fields(message, rest), text(message)),
    error: (message: unknown, ...rest: unknown[]) => log.error(fields(message, rest), text(message)),
    fatal: (message: unknown, ...rest: unknown[]) => log.error(fields(message, rest), text(message)),
  }
}
