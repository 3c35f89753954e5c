/** Bearer tokens. The file holds names, scopes and the SHA-256 of each token; the tokens themselves are nowhere. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'

export const SCOPES = [
  'fleet:read',
  'peers:read',
  'peers:write',
  'consents:write',
  'documents:read',
  'documents:write',
  'shares:write',
  'inbox:read',
  'verdicts:write',
  'audit:read',
  'ops:read',
  // Identity keys and their custody: the administrator's alone.
  'keys:write',
] as const
export type Scope = (typeof SCOPES)[number]

const tokenFile = z
  .array(
    z.strictObject({
      name: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,39}$/),
      scopes: z.array(z.enum(SCOPES)),
      sha256: z.string().regex(/^[0-9a-f]{64}$/),
    }),
  )
  .min(1)
  .max(200)

export interface ApiClient {
  readonly name: string
  readonly scopes: ReadonlySet<Scope>
}

export class TokenBook {
  readonly #entries: ReadonlyArray<{ client: ApiClient; digest: Buffer }>

  constructor(entries: z.output<typeof tokenFile>) {
    const names = new Set(entries.map((entry) => entry.name))
    if (names.size !== entries.length) throw new Error('api-tokens.json: two tokens have one name')
    this.#entries = entries.map((entry) => ({
      client: { name: entry.name, scopes: new Set(entry.scopes) },
      digest: Buffer.from(entry.sha256, 'hex'),
    }))
  }

  /** @throws Error that names the entry and never repeats what it holds */
  static read(file: Uint8Array): TokenBook {
    const parsed = tokenFile.safeParse(parse(file))
    if (parsed.success) return new TokenBook(parsed.data)
    const where = parsed.error.issues[0]?.path.join('.') ?? ''
    throw new Error(`api-tokens.json: entry ${where} is not { name, scopes, sha256 }`)
  }

  /**
   * The digest of the token given is compared with every entry, in constant time each: neither the place nor the
   * number of equal bytes can be read off the clock.
   */
  clientOf(token: string): ApiClient | undefined {
    const digest = createHash('sha256').update(token, 'utf8').digest()
    let client: ApiClient | undefined
    for (const entry of this.#entries) if (timingSafeEqual(entry.digest, digest)) client = entry.client
    return client
  }
}

function parse(file: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(file).toString('utf8'))
  } catch {
    // The parser's own message would quote the file.
    throw new Error('api-tokens.json is not JSON')
  }
}
