/**
 * One connection to NATS per process: it starts in the background, reconnects for ever and reports what the server
 * refuses. NATS going away is never a reason to end.
 * @see docs/spec/bus.md §1
 */
import { randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { ServiceName } from '@tallystick/contracts/call'
import { connect, ErrorCode, Events, type NatsConnection, type Status } from 'nats'
import type { Registry } from 'prom-client'
import { busMetrics, type BusMetrics } from './metrics.js'
import { signNonce } from './nkeys.js'
import { inboxPrefix } from './permissions.js'

/** What the bus needs of a logger; pino's fits. */
export interface BusLog {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export interface BusOptions {
  /** `nats://host:port`, several separated by commas. */
  readonly url: string
  /** File of the user's nkey seed; read again at each connect, so that a new key needs no restart. */
  readonly seedFile: string
  readonly service: ServiceName
  /** Shown by the NATS server in its own logs. */
  readonly name: string
  readonly log: BusLog
  readonly metrics: Registry
}

/** Wait between attempts to connect, milliseconds; the jitter keeps replicas apart. */
const RECONNECT_WAIT_MS = 200
const RECONNECT_JITTER_MS = 200
/** Pings that notice a silent server: dead after at most 3 × 5 s. */
const PING_INTERVAL_MS = 5_000
const MAX_PINGS_OUT = 2
/** Longest wait for the last bytes to leave at shutdown, milliseconds. */
const CLOSE_MS = 2_000

type ConnectionListener = (connection: NatsConnection) => void

export class Bus {
  readonly service: ServiceName
  readonly #options: BusOptions
  readonly #metrics: BusMetrics
  readonly #onConnection = new Set<ConnectionListener>()
  readonly #onReconnect = new Set<() => void>()
  #connection: NatsConnection | undefined
  #connected = false
  #closing = false
  #lost = new AbortController()
  #first = Promise.withResolvers<NatsConnection>()
  #loop: Promise<void>

  constructor(options: BusOptions) {
    this.service = options.service
    this.#options = options
    this.#metrics = busMetrics(options.metrics)
    this.#metrics.connected.set(0)
    // Nobody need wait for it: closing before the first connection is no error.
    this.#first.promise.catch(() => undefined)
    this.#loop = this.#connectForEver()
  }

  /** True while the server answers; a call made while it is false fails at once. */
  get connected(): boolean {
    return this.#connected
  }

  /**
   * Aborts when the present connection is lost. Replies to requests in flight are lost with it: a restarted server no
   * longer knows which responses it had allowed.
   */
  get lost(): AbortSignal {
    return this.#lost.signal
  }

  connection(): NatsConnection | undefined {
    return this.#connection
  }

  /** Resolves at the first connection; rejects if the bus is closed before. */
  whenConnected(): Promise<NatsConnection> {
    return this.#first.promise
  }

  /** Called at once if there is a connection object, and for each later one. Subscriptions survive its reconnects. */
  onConnection(listener: ConnectionListener): () => void {
    this.#onConnection.add(listener)
    if (this.#connection) listener(this.#connection)
    return () => this.#onConnection.delete(listener)
  }

  /** Called each time that the bus is back after a loss. */
  onReconnect(listener: () => void): () => void {
    this.#onReconnect.add(listener)
    return () => this.#onReconnect.delete(listener)
  }

  /** Send what is still buffered, then end. Handlers must have finished before: see NatsTransport.close. */
  async close(): Promise<void> {
    if (this.#closing) return this.#loop
    this.#closing = true
    this.#first.reject(new Error('closed'))
    const connection = this.#connection
    if (connection && this.#connected) await Promise.race([connection.flush().catch(() => undefined), after(CLOSE_MS)])
    await connection?.close()
    this.#setConnected(false)
    if (connection) await this.#loop
  }

  async #connectForEver(): Promise<void> {
    while (!this.#closing) {
      try {
        const connection = await connect({
          servers: this.#options.url.split(','),
          name: this.#options.name,
          inboxPrefix: inboxPrefix(this.service),
          authenticator: (nonce) => signNonce(readFileSync(this.#options.seedFile), nonce),
          reconnect: true,
          maxReconnectAttempts: -1,
          waitOnFirstConnect: true,
          ignoreAuthErrorAbort: true,
          noAsyncTraces: true,
          reconnectTimeWait: RECONNECT_WAIT_MS,
          reconnectJitter: RECONNECT_JITTER_MS,
          pingInterval: PING_INTERVAL_MS,
          maxPingOut: MAX_PINGS_OUT,
        })
        if (this.#closing) return await connection.close()
        this.#adopt(connection)
        await connection.closed()
        this.#setConnected(false)
        this.#connection = undefined
      } catch (error) {
        // Only what the client library regards as final ends here: an unreadable seed file, for one.
        this.#options.log.error({ err: error }, 'no connection to NATS')
      }
      if (!this.#closing) await after(RECONNECT_WAIT_MS + randomInt(RECONNECT_JITTER_MS))
    }
  }

  #adopt(connection: NatsConnection): void {
    this.#connection = connection
    this.#setConnected(true)
    this.#options.log.info({ url: connection.getServer() }, 'connected to NATS')
    void this.#watch(connection)
    this.#first.resolve(connection)
    for (const listener of this.#onConnection) listener(connection)
    for (const listener of this.#onReconnect) listener()
  }

  async #watch(connection: NatsConnection): Promise<void> {
    for await (const status of connection.status()) {
      switch (status.type) {
        case Events.Disconnect:
          if (this.#connected) this.#options.log.warn({}, 'lost the connection to NATS')
          this.#setConnected(false)
          break
        case Events.Reconnect:
          this.#setConnected(true)
          this.#options.log.info({ url: connection.getServer() }, 'connected to NATS again')
          for (const listener of this.#onReconnect) listener()
          break
        case Events.Error:
          this.#serverError(status)
          break
        default:
          break
      }
    }
  }

  #serverError(status: Status): void {
    if (status.data !== ErrorCode.PermissionsViolation) {
      this.#options.log.error({ what: String(status.data) }, 'the NATS server reports an error')
      return
    }
    const operation = status.permissionContext?.operation ?? 'unknown'
    const subject = status.permissionContext?.subject ?? 'unknown'
    // Inbox subjects end in a random token, which would make a metric series each.
    const label = subject.startsWith('_INBOX') ? '_INBOX' : subject
    this.#metrics.permissionViolations.inc({ operation, subject: label })
    this.#options.log.error({ what: operation, subject: label }, 'the NATS server refuses: the permissions do not allow it')
  }

  #setConnected(connected: boolean): void {
    if (connected === this.#connected) return
    this.#connected = connected
    this.#metrics.connected.set(connected ? 1 : 0)
    if (connected) this.#lost = new AbortController()
    else this.#lost.abort(new Error('the connection to NATS was lost'))
  }
}

/** Returns at once; the connection comes and goes in the background. */
export function connectBus(options: BusOptions): Bus {
  return new Bus(options)
}

function after(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
