/**
 * What has to be true before and while the service works: identity keys, prekeys that are not too old, a certificate that says
 * what is true now, old epochs wiped. Runs at the start, until all of it holds, and then every minute. Databases and services that
 * are away delay it and never end it.
 */
import { ProtocolError } from '@tallystick/primitives/errors'
import type { Context } from './context.js'
import { ensureCertificate } from './identity/certificates.js'
import type { ServiceKeySource } from './service-keys.js'
import { openSessionCore, type SessionCore, tidy } from './session-core.js'
import type { BundleSource } from './sessions/bundle-source.js'

/** Pause while something is still missing, milliseconds. */
const SOON_MS = 250
/** Pause after a failure, milliseconds. */
const AFTER_FAILURE_MS = 1_000

export interface UpkeepOptions {
  readonly context: Context
  readonly bundles: BundleSource
  readonly keys: ServiceKeySource
  readonly displayName: string
  /** Wrong key file: going on would make a second identity, or none. */
  readonly fatal: (error: unknown) => void
  /** audit-svc has answered for the first time. */
  readonly auditSeen: () => void
  /** What has to happen before the identity keys are looked for; done again until it succeeds. */
  readonly prepare?: () => Promise<void>
}

export class Upkeep {
  readonly #options: UpkeepOptions
  #core: SessionCore | undefined
  #known: { peerId?: string; logKey?: Uint8Array } = {}
  #complete = false
  #stopping = false
  #running: Promise<void> | undefined
  #woken = Promise.withResolvers<void>()

  constructor(options: UpkeepOptions) {
    this.#options = options
  }

  /** Undefined until the identity keys are there. */
  get core(): SessionCore | undefined {
    return this.#core
  }

  /** True once a certificate has been issued or found, and prekeys are in stock. */
  get complete(): boolean {
    return this.#complete
  }

  start(): void {
    this.#running ??= this.#run()
  }

  /** Something has changed: look now. */
  wake(): void {
    this.#woken.resolve()
  }

  async stop(): Promise<void> {
    this.#stopping = true
    this.wake()
    await this.#running
  }

  async #run(): Promise<void> {
    const { context, fatal } = this.#options
    while (!this.#stopping) {
      let pause = AFTER_FAILURE_MS
      try {
        await this.#round()
        pause = this.#complete ? context.limits.upkeepMs : SOON_MS
      } catch (error) {
        if (error instanceof ProtocolError && error.code === 'KeyStorage' && error.reason !== 'locked') return fatal(error)
        context.log.warn({ err: error }, 'upkeep will be tried again')
      }
      await this.#wait(pause)
    }
  }

  async #round(): Promise<void> {
    const { context, bundles, keys, displayName, auditSeen } = this.#options
    if (!this.#core) await this.#options.prepare?.()
    this.#core ??= await openSessionCore(context, bundles)
    await context.custody.refresh()
    // Another replica may have renewed the identity: what is replaced does not stay in memory until it is asked for.
    await this.#core.identity.follow(context.db)
    await this.#core.stock.ensure()
    await this.#core.stock.rotate()
    const peerId = await keys.peerId()
    const logKey = await keys.logKey()
    if (logKey && !this.#known.logKey) auditSeen()
    if (peerId) this.#known.peerId = peerId
    if (logKey) this.#known.logKey = logKey
    if (this.#known.peerId && this.#known.logKey) {
      const told = { peerId: this.#known.peerId, logKey: this.#known.logKey }
      if (await ensureCertificate(context, this.#core.identity, displayName, told))
        context.log.info({ what: 'certificate' }, 'fleet certificate issued')
      this.#complete = true
    } else if (!this.#complete) {
      // A certificate from an earlier start serves while the others are away.
      this.#complete = (await context.db.certificate.count()) > 0
    }
    await tidy(this.#core)
  }

  async #wait(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms)
    })
    await Promise.race([timeout, this.#woken.promise])
    clearTimeout(timer)
    this.#woken = Promise.withResolvers<void>()
  }
}
