/** HTTP calls to a fleet's own API. */
import type { TokenName } from '../secrets/fleet-secrets.ts'

export interface ApiInit {
  method?: string
  /** An object goes out as JSON; text and bytes as they are. */
  body?: unknown
  /** Default `admin`; `null`: no token. */
  token?: TokenName | null
  headers?: Record<string, string>
  timeoutMs?: number
}

export interface ApiAnswer {
  status: number
  headers: Headers
  /** Parsed when the answer is JSON, else text. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  body: any
}

const TIMEOUT_MS = 30_000

export async function callApi(base: string, tokens: Record<TokenName, string>, path: string, init: ApiInit = {}): Promise<ApiAnswer> {
  const { body } = init
  const raw = typeof body === 'string' || body instanceof Uint8Array
  const method = init.method ?? (body === undefined ? 'GET' : 'POST')
  const request = {
    method,
    headers: {
      ...(init.token === null ? {} : { authorization: `Bearer ${tokens[init.token ?? 'admin']}` }),
      ...(body === undefined || raw ? {} : { 'content-type': 'application/json' }),
      ...init.headers,
    },
    ...(body === undefined ? {} : { body: raw ? body : JSON.stringify(body) }),
    signal: AbortSignal.timeout(init.timeoutMs ?? TIMEOUT_MS),
  }
  let response: Response
  try {
    response = await fetch(new URL(path, base), request)
  } catch (error) {
    // A kept connection to a service that has been started again since: reading once more is safe.
    if (method !== 'GET' || ((error as Error).cause as { code?: string } | undefined)?.code !== 'UND_ERR_SOCKET') throw error
    response = await fetch(new URL(path, base), request)
  }
  const text = await response.text()
  const isJson = /[/+]json\b/.test(response.headers.get('content-type') ?? '')
  return { status: response.status, headers: response.headers, body: isJson && text !== '' ? (JSON.parse(text) as unknown) : text }
}
