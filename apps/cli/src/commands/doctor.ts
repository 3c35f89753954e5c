/** `tallystick doctor`: is this fleet well, and if not, what is it? */
import { decodeVkey } from '@tallystick/merkle-log/note'
import { verifyCheckpoint } from '@tallystick/merkle-log/checkpoint'
import { fromBase64Url } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { logVkey, readCertificate } from '@tallystick/wire/certificate'
import type { Api } from '../api.js'
import { CommandError, EXIT, type ExitCode, type Printer } from '../outcome.js'
import { allPeers } from './peer.js'

interface Check {
  readonly name: string
  readonly ok: boolean
  readonly detail: string
  readonly exitCode: ExitCode
}

const HEALTH_MS = 5_000
/** Key states that a person should know of, and what they mean. @see docs/runbooks/resync.md */
const KEY_FAULTS: Readonly<Record<string, string>> = {
  'identity-changed': 'has new identity keys that nobody has approved (`peer verify`)',
  'rotation-blocked': 'cannot be reached for a new epoch, messages wait',
  resync: 'needs a new session (`keys status`)',
  suspect: 'sent messages that do not open',
}

export async function doctor(api: Api, print: Printer): Promise<ExitCode> {
  const checks: Check[] = []
  const check = async (name: string, work: () => Promise<string>): Promise<void> => {
    let result: Check
    try {
      result = { name, ok: true, detail: await work(), exitCode: EXIT.ok }
    } catch (error) {
      if (error instanceof CommandError) result = { name, ok: false, detail: error.message, exitCode: error.exitCode }
      else if (error instanceof ProtocolError)
        result = { name, ok: false, detail: `${error.code}: ${error.message}`, exitCode: EXIT.integrity }
      else throw error
    }
    checks.push(result)
    print.line(`${result.ok ? 'ok    ' : 'FAILED'} ${name}: ${result.detail}`)
  }

  for (const [service, metrics] of Object.entries(api.target.services)) await check(service, () => ready(metrics))
  let vkey: string | undefined
  await check('fleet', async () => {
    const fleet = await api.get<{ fleetId: string; displayName: string; certificate: string; multiaddrs: string[] }>('/v1/fleet')
    const certificate = readCertificate(fromBase64Url(fleet.certificate), Date.now())
    if (certificate.fleetId !== fleet.fleetId) throw new ProtocolError('VerificationFailed', 'the certificate is of another fleet')
    vkey = logVkey(certificate)
    return `${fleet.displayName}, ${fleet.fleetId}, ${fleet.multiaddrs.length} addresses, certificate until ${new Date(certificate.notAfter).toISOString().slice(0, 10)}`
  })
  await check('circuits', async () => {
    const { items } = await api.get<{ items: { target: string; state: string }[] }>('/v1/breakers')
    const open = items.filter((item) => item.state !== 'closed').map((item) => `${item.target} ${item.state}`)
    if (open.length > 0) throw new CommandError(EXIT.unreachable, open.join(', '))
    return `${items.length} closed`
  })
  await check('audit log', async () => {
    const { note } = await api.get<{ note: string }>('/v1/audit/checkpoint')
    if (vkey === undefined) throw new CommandError(EXIT.unreachable, 'without the certificate the checkpoint cannot be checked')
    const key = decodeVkey(vkey)
    return `checkpoint of ${verifyCheckpoint(note, [key], key.name).size} events, signed by the certificate’s log key`
  })
  await check('peers', async () => {
    const peers = await allPeers(api)
    const stuck = peers
      .filter((peer) => peer.state === 'pending')
      .map((peer) => `${peer.displayName} is pending${peer.cause === null ? '' : ` (${peer.cause})`}`)
    if (stuck.length > 0) throw new CommandError(EXIT.unreachable, stuck.join(', '))
    return `${peers.length} pinned`
  })
  await check('keys', async () => {
    const peers = (await allPeers(api)).filter((peer) => peer.state === 'active')
    const of = (state: string) => peers.filter((peer) => peer.keyState === state)
    const faults = Object.entries(KEY_FAULTS).flatMap(([state, text]) => of(state).map((peer) => `${peer.displayName} ${text}`))
    if (faults.length > 0) throw new CommandError(of('identity-changed').length > 0 ? EXIT.integrity : EXIT.unreachable, faults.join('; '))
    return `${peers.length} peers understood`
  })
  await check('custody', async () => {
    const { provider, memory, prekeys } = await api.get<{
      provider: string
      memory: { arenaBytes: number; lockedBytes: number; locked: boolean; excludedFromCoreDumps: boolean }
      prekeys: { kind: string; available: number }[]
    }>('/v1/custody')
    const faults = [
      ...(memory.locked && memory.lockedBytes >= memory.arenaBytes ? [] : ['keys lie in memory that is not locked']),
      ...(memory.excludedFromCoreDumps ? [] : ['a core dump would hold keys']),
      ...prekeys.filter(({ available }) => available === 0).map(({ kind }) => `no ${kind} prekey is left`),
    ]
    if (faults.length > 0) throw new CommandError(EXIT.integrity, faults.join('; '))
    return `${provider}, ${memory.lockedBytes} bytes locked`
  })

  const exitCode = checks.reduce<ExitCode>((worst, { exitCode: code }) => (code > worst ? code : worst), EXIT.ok)
  print.result({ ok: exitCode === EXIT.ok, checks: checks.map(({ name, ok, detail }) => ({ name, ok, detail })) })
  return exitCode
}

/** @param metrics URL of a service's metrics; its health endpoints stand beside */
async function ready(metrics: string): Promise<string> {
  const url = new URL('/health/ready', metrics)
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(HEALTH_MS) })
    const { checks = {} } = (await response.json()) as { checks?: Record<string, string> }
    const down = Object.entries(checks)
      .filter(([, state]) => state !== 'up')
      .map(([name]) => name)
    if (!response.ok) throw new CommandError(EXIT.unreachable, `not ready${down.length > 0 ? `: ${down.join(', ')}` : ''}`)
    return 'ready'
  } catch (error) {
    if (error instanceof CommandError) throw error
    throw new CommandError(EXIT.unreachable, `${url.href} does not answer`)
  }
}
