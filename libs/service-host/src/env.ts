/** The environment variables of every service. Errors name a variable and never print its value. */
import { BREAKER_FAILURES, BREAKER_MAX_RESET_MS, BREAKER_RESET_MS, BREAKER_WINDOW_MS } from '@tallystick/nats-rpc/breaker'
import { z } from 'zod'

const port = z.coerce.number().int().min(0).max(65_535)

export const baseEnv = z.object({
  /** Name of the fleet; part of log lines, of nothing cryptographic. */
  TALLYSTICK_FLEET: z.string().regex(/^[a-z][a-z0-9-]{0,30}$/, { error: 'lower-case letters, digits and hyphens, 31 at most' }),
  TALLYSTICK_NATS_URL: z.string().min(1),
  TALLYSTICK_SECRETS_DIR: z.string().min(1),
  /** Address on which the service listens for health checks and metrics. */
  TALLYSTICK_HOST: z.string().min(1).default('127.0.0.1'),
  /** 0: any free port, printed in the log. */
  TALLYSTICK_OPS_PORT: port,
  LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
  NODE_ENV: z.string().default('development'),
  TALLYSTICK_CLOCK_FILE: z.string().min(1).optional(),
  TALLYSTICK_WIRE_TAP: z.string().min(1).optional(),
  /** The circuit breakers of calls to other services. @see docs/spec/bus.md §5 */
  TALLYSTICK_BREAKER_FAILURES: z.coerce.number().int().min(1).default(BREAKER_FAILURES),
  TALLYSTICK_BREAKER_WINDOW_MS: z.coerce.number().int().min(1).default(BREAKER_WINDOW_MS),
  TALLYSTICK_BREAKER_RESET_MS: z.coerce.number().int().min(1).default(BREAKER_RESET_MS),
  TALLYSTICK_BREAKER_MAX_RESET_MS: z.coerce.number().int().min(1).default(BREAKER_MAX_RESET_MS),
})
export type BaseEnv = z.output<typeof baseEnv>

export class EnvironmentError extends Error {
  override readonly name = 'EnvironmentError'
}

/**
 * @param extra schema of the service's own variables
 * @param variables usually process.env; an empty text counts as absent
 * @throws EnvironmentError with one line per variable that is missing or not acceptable
 */
export function parseEnv<Shape extends z.ZodRawShape>(
  extra: z.ZodObject<Shape>,
  variables: Readonly<Record<string, string | undefined>>,
): z.output<z.ZodObject<Shape>> & BaseEnv {
  const given = Object.fromEntries(Object.entries(variables).filter(([, value]) => value !== undefined && value !== ''))
  const problems: string[] = []
  const base = baseEnv.safeParse(given)
  const own = extra.safeParse(given)
  for (const result of [base, own]) {
    for (const issue of result.error?.issues ?? []) problems.push(describe(issue, given))
  }
  if (!base.success || !own.success) throw new EnvironmentError(`the environment is not complete:\n${problems.join('\n')}`)
  return { ...own.data, ...base.data }
}

function describe(issue: z.core.$ZodIssue, given: Readonly<Record<string, unknown>>): string {
  const name = String(issue.path[0] ?? '(unknown)')
  if (!(name in given)) return `  ${name}: is missing`
  const value = given[name]
  // A schema's own message might quote the value.
  const quotes = typeof value === 'string' && value !== '' && issue.message.includes(value)
  return `  ${name}: ${quotes ? 'is not acceptable' : issue.message}`
}
