/** The HTTP API of one fleet, and where it is: `--url` and a token file, or `--fleet DIR`. */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { CommandError, EXIT, type Io } from './outcome.js'

export interface Target {
  /** Without a slash at the end. */
  readonly url: string
  readonly token: string
  /** Operations endpoints by service, from fleet.json. */
  readonly services: Readonly<Record<string, string>>
}

export interface TargetOptions {
  readonly url?: string | undefined
  readonly tokenFile?: string | undefined
  readonly fleet?: string | undefined
}

const REQUEST_MS = 30_000
/** The API takes 100 requests a minute per endpoint: reading a long log waits its turn, this long at most each time. */
const MAX_PAUSE_MS = 65_000

/** @throws CommandError usage */
export function findTarget(options: TargetOptions, io: Io): Target {
  const fleet = options.fleet ?? (options.url === undefined ? io.env.TALLYSTICK_FLEET_DIR : undefined)
  if (fleet !== undefined) return fromFleet(fleet)
  const url = options.url ?? io.env.TALLYSTICK_URL
  const tokenFile = options.tokenFile ?? io.env.TALLYSTICK_TOKEN_FILE
  if (url === undefined || tokenFile === undefined) {
    throw new CommandError(
      EXIT.usage,
      'Which fleet? Give --fleet DIR, or --url URL with --token-file FILE (or TALLYSTICK_URL and TALLYSTICK_TOKEN_FILE).',
    )
  }
  return { url: checkedUrl(url), token: readText(tokenFile, 'token file').trim(), services: {} }
}

function fromFleet(directory: string): Target {
  const text = readText(join(directory, 'fleet.json'), 'fleet.json')
  try {
    const info = JSON.parse(text) as { api: { url: string; tokens: Record<string, string> }; metrics?: Record<string, string> }
    const token = info.api.tokens.admin ?? info.api.tokens.operator ?? info.api.tokens.auditor
    if (typeof token !== 'string') throw new TypeError('no token')
    return { url: checkedUrl(info.api.url), token, services: info.metrics ?? {} }
  } catch (error) {
    if (error instanceof CommandError) throw error
    throw new CommandError(EXIT.usage, `${join(directory, 'fleet.json')} does not describe a fleet.`)
  }
}

function checkedUrl(text: string): string {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol))
    throw new CommandError(EXIT.usage, 'The URL must begin with http:// or https://.')
  return text.replace(/\/+$/, '')
}

/** @throws CommandError usage that names the file */
export function readText(file: string, what: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8')
  } catch (error) {
    throw new CommandError(EXIT.usage, `The ${what} ${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'error'}).`)
  }
}

interface Problem {
  code?: string
  detail?: string
  errors?: { pointer: string; rule: string; message: string }[]
  traceId?: string
  retryAfterMs?: number
}

export class Api {
  readonly #target: Target

  constructor(target: Target) {
    this.#target = target
  }

  get target(): Target {
    return this.#target
  }

  async get<T>(path: string): Promise<T> {
    return (await this.#request('GET', path, {})).json() as Promise<T>
  }

  async text(path: string, accept: string): Promise<string> {
    return (await this.#request('GET', path, { headers: { accept } })).text()
  }

  async patch<T>(path: string, body: unknown): Promise<T> {
    const init = { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
    return (await this.#request('PATCH', path, init)).json() as Promise<T>
  }

  /** For answers that are a file. */
  async postForBytes(path: string, body: unknown): Promise<Uint8Array> {
    const headers = { 'idempotency-key': randomUUID(), 'content-type': 'application/json' }
    return new Uint8Array(await (await this.#request('POST', path, { headers, body: JSON.stringify(body) })).arrayBuffer())
  }

  /** @param body an object as JSON, or text with its content type */
  async post<T>(path: string, body?: unknown, contentType?: string): Promise<T> {
    const headers: Record<string, string> = { 'idempotency-key': randomUUID() }
    if (body === undefined) return (await this.#request('POST', path, { headers })).json() as Promise<T>
    headers['content-type'] = contentType ?? 'application/json'
    return (
      await this.#request('POST', path, { headers, body: contentType === undefined ? JSON.stringify(body) : (body as string) })
    ).json() as Promise<T>
  }

  /** @throws CommandError unreachable (no answer, 5xx), validation (any other refusal); waits and repeats on 429 */
  async #request(method: string, path: string, init: { headers?: Record<string, string>; body?: string }): Promise<Response> {
    for (;;) {
      const response = await this.#once(method, path, init)
      if (response.ok) return response
      const problem = (await response.json().catch(() => ({}))) as Problem
      if (response.status !== 429) throw refusal(response.status, problem)
      await pause(Math.min(MAX_PAUSE_MS, Math.max(50, problem.retryAfterMs ?? 1_000)))
    }
  }

  async #once(method: string, path: string, init: { headers?: Record<string, string>; body?: string }): Promise<Response> {
    try {
      return await fetch(`${this.#target.url}${path}`, {
        ...init,
        method,
        headers: { authorization: `Bearer ${this.#target.token}`, ...init.headers },
        signal: AbortSignal.timeout(REQUEST_MS),
        redirect: 'error',
      })
    } catch (error) {
      throw new CommandError(EXIT.unreachable, `${this.#target.url} does not answer (${causeOf(error)}).`)
    }
  }
}

function refusal(status: number, problem: Problem): CommandError {
  const faults = (problem.errors ?? []).map((fault) => `\n  ${fault.pointer || '/'}: ${fault.message} (${fault.rule})`).join('')
  return new CommandError(
    status >= 500 ? EXIT.unreachable : EXIT.validation,
    `${problem.code ?? status}: ${problem.detail ?? 'the request was refused'}${faults}`,
    { status, ...problem },
  )
}

function causeOf(error: unknown): string {
  const cause = (error as { cause?: { code?: string } }).cause?.code
  return cause ?? (error as Error).name
}
