/** `runService`: the main function of every service process. */
import type { z } from 'zod'
import { EnvironmentError } from './env.js'
import { startService, type ServiceDefinition } from './lifecycle.js'
import { createLogger } from './logger.js'

export type { BaseEnv } from './env.js'
export type { Host, HttpOptions, ServiceDefinition, StartedService } from './lifecycle.js'

/** Longest time of a graceful shutdown, milliseconds: handlers have 30 s, the rest little. */
const SHUTDOWN_MS = 45_000

/**
 * Run a service until SIGTERM or SIGINT, then let requests in flight finish and exit with 0. A second signal ends it at
 * once. A start that fails, an unhandled rejection or `host.fatal` is logged once and ends the process with 1: going
 * on in an unknown state could reuse a key or fork a log.
 *
 * Core dumps must be off, since they would hold keys: Node cannot set the limit itself, so whoever starts the process
 * does (`ulimit -c 0`, `LimitCORE=0`, the container's ulimits).
 */
export async function runService<Shape extends z.ZodRawShape>(definition: ServiceDefinition<Shape>): Promise<void> {
  let log = createLogger({ service: definition.name })
  const end = (error: unknown, message: string): never => {
    log.fatal({ err: error, exitCode: 1 }, message)
    process.exit(1)
  }
  process.on('unhandledRejection', (reason) => end(reason, 'unhandled rejection'))
  process.on('uncaughtException', (error) => end(error, 'uncaught exception'))

  // Signals may come while the service is still starting.
  const signalled = Promise.withResolvers<NodeJS.Signals>()
  let stopping = false
  const onSignal = (signal: NodeJS.Signals) => {
    if (stopping) process.exit(1)
    stopping = true
    signalled.resolve(signal)
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)

  try {
    const starting = startService(definition, { variables: process.env, onFatal: (error) => end(error, 'fatal') })
    const first = await Promise.race([starting, signalled.promise])
    if (typeof first === 'string') process.exit(0)
    log = first.log
    const signal = await signalled.promise
    log.info({ signal }, 'stopping')
    setTimeout(() => end(new Error('the shutdown took too long'), 'stopping'), SHUTDOWN_MS).unref()
    await first.stop()
    log.info('stopped')
    process.exit(0)
  } catch (error) {
    if (error instanceof EnvironmentError) {
      // Variable names only; a stack would be of no use.
      log.fatal({ exitCode: 1 }, error.message)
      process.exit(1)
    }
    end(error, 'the service cannot start')
  }
}
