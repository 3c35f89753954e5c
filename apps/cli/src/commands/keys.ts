/** `tallystick keys …`: the sessions with peers, the fleet's own identity keys, and how they are kept. */
import { existsSync, writeFileSync } from 'node:fs'
import type { Api } from '../api.js'
import { CommandError, EXIT, type ExitCode, type Printer } from '../outcome.js'
import { allPeers, type Peer } from './peer.js'

interface Custody {
  provider: string
  kekId: string
  dataKeys: { id: string; version: number }[]
  signingKey: string
  memory: { arenaBytes: number; usedBytes: number; lockedBytes: number; locked: boolean; excludedFromCoreDumps: boolean }
  prekeys: { kind: string; available: number; newestAt: string | null }[]
  generation: { value: number; restoredAt: string | null }
}

/** @param id one peer in full; undefined: custody, and every peer in a line */
export async function keysStatus(api: Api, id: string | undefined, print: Printer): Promise<ExitCode> {
  if (id !== undefined) {
    const peer = await api.get<Peer>(`/v1/peers/${encodeURIComponent(id)}`)
    for (const line of describePeer(peer)) print.line(line)
    print.result(peer)
    return EXIT.ok
  }
  const custody = await api.get<Custody>('/v1/custody')
  const { memory, generation } = custody
  print.line(
    `custody     ${custody.provider}, key-encryption key ${custody.kekId}, ${custody.dataKeys.length} data keys, identity key ${custody.signingKey}`,
  )
  print.line(
    `memory      ${memory.usedBytes} of ${memory.arenaBytes} bytes of the arena in use, ${memory.locked ? `locked (${memory.lockedBytes} bytes)` : 'NOT LOCKED'}${memory.excludedFromCoreDumps ? '' : ', IN CORE DUMPS'}`,
  )
  print.line(`prekeys     ${custody.prekeys.map((stock) => `${stock.kind} ${stock.available}`).join(', ')}`)
  print.line(
    `database    generation ${generation.value}${generation.restoredAt === null ? '' : `, was put back at ${generation.restoredAt}`}`,
  )
  const peers = await allPeers(api)
  for (const peer of peers) print.line(`peer        ${peer.fleetId}  ${keyStateOf(peer).padEnd(16)} ${peer.displayName}`)
  if (peers.length === 0) print.line('no peers yet')
  print.result({
    custody,
    peers: peers.map(({ fleetId, displayName, keyState }) => ({ fleetId, displayName, keyState: keyState ?? null })),
  })
  return EXIT.ok
}

/** The next message begins a new epoch; a control message is sent for it within seconds. */
export async function keysRotate(api: Api, id: string, print: Printer): Promise<ExitCode> {
  const peer = await api.post<Peer>(`/v1/peers/${encodeURIComponent(id)}/rotate`)
  print.line(`a new epoch begins with the next message to ${peer.displayName}; the present one is ${peer.session?.epoch ?? 'none'}`)
  print.result(peer)
  return EXIT.ok
}

export async function keysResync(api: Api, id: string, print: Printer): Promise<ExitCode> {
  const peer = await api.post<Peer>(`/v1/peers/${encodeURIComponent(id)}/resync`)
  print.line(
    `a session that continues nothing begins with the next message to ${peer.displayName} (now: ${peer.recovery?.state ?? 'unknown'})`,
  )
  print.line('One that the peer begins is accepted for an hour. What either side missed is sent again by itself.')
  print.result(peer)
  return EXIT.ok
}

/** @param documents 1 to 100 documents per epoch, or `default` */
export async function keysPolicy(api: Api, id: string, documents: string, print: Printer): Promise<ExitCode> {
  const rotateEvery = documents === 'default' ? null : Number(documents)
  if (rotateEvery !== null && !(Number.isInteger(rotateEvery) && rotateEvery >= 1 && rotateEvery <= 100))
    throw new CommandError(EXIT.usage, '--rotate-every takes a number from 1 to 100, or default.')
  const peer = await api.patch<Peer>(`/v1/peers/${encodeURIComponent(id)}`, { rotateEvery })
  print.line(`${peer.displayName}: ${rotateEvery === null ? "the fleet's limit" : `a new epoch every ${rotateEvery} documents`}`)
  print.result(peer)
  return EXIT.ok
}

interface Renewed {
  fleetId: string
  sequence: number
  fingerprint: string
  sessionsWiped: number
  prekeysDestroyed: number
  repeated: boolean
}

/** @param confirm the fleet id, typed; undefined: says what would happen and does nothing */
export async function keysRenewIdentity(api: Api, confirm: string | undefined, print: Printer): Promise<ExitCode> {
  const { fleetId, fingerprint } = await api.get<{ fleetId: string; fingerprint: string }>('/v1/fleet')
  if (confirm !== fleetId) {
    for (const line of RENEWAL) print.line(line)
    throw new CommandError(
      EXIT.usage,
      `${confirm === undefined ? 'Nothing was done.' : 'That is not the id of this fleet: nothing was done.'} To go ahead: tallystick keys renew-identity --confirm ${fleetId}`,
      { fleetId, fingerprint },
    )
  }
  const renewed = await api.post<Renewed>('/v1/fleet/renew-identity', { confirm })
  print.line(
    `new identity keys: certificate number ${renewed.sequence}; ${renewed.sessionsWiped} sessions wiped, ${renewed.prekeysDestroyed} prekeys destroyed`,
  )
  print.line('Read this fingerprint to the people of every peer, by telephone or in person. They approve it with `peer verify`:')
  print.line(`  ${renewed.fingerprint}`)
  print.result(renewed)
  return EXIT.ok
}

const RENEWAL = [
  'This makes new identity keys for the fleet. The fleet id stays; the fingerprint changes.',
  '- Every session is wiped at once, and every prekey. Messages on their way to this fleet cannot be opened any more; peers send them again.',
  '- Every peer stops exchanging with this fleet until one of its people has compared the new fingerprint.',
  '- It cannot be undone. Backups made before hold the old keys: make a new one.',
]

/** @param recipients age1…; whoever holds one of their identities can open the file */
export async function keysBackup(api: Api, file: string, recipients: readonly string[], print: Printer): Promise<ExitCode> {
  if (existsSync(file)) throw new CommandError(EXIT.validation, `${file} exists: a backup is not overwritten.`)
  const bytes = await api.postForBytes('/v1/custody/backup', { recipients })
  try {
    writeFileSync(file, bytes, { mode: 0o600, flag: 'wx' })
  } catch (error) {
    throw new CommandError(EXIT.usage, `${file} cannot be written (${(error as NodeJS.ErrnoException).code ?? 'error'}).`)
  }
  print.line(
    `${file}: identity keys, ${bytes.length} bytes, for ${recipients.length} recipient${recipients.length === 1 ? '' : 's'}; no session is in it`,
  )
  print.line('Keep it away from the machine and from the database’s backup. It is worth as much as the fleet.')
  print.result({ file, bytes: bytes.length, recipients: recipients.length })
  return EXIT.ok
}

export async function keysRotateKek(api: Api, print: Printer): Promise<ExitCode> {
  const { from, to, rewrapped } = await api.post<{ from: string; to: string; rewrapped: number }>('/v1/custody/rotate-kek')
  print.line(`${rewrapped} data keys are now wrapped under ${to}, before under ${from}`)
  print.line('Put the new key in the place of the old one, then restart session-svc: see docs/runbooks/kek-rotation.md.')
  print.result({ from, to, rewrapped })
  return EXIT.ok
}

/** For lists; a service of an earlier version does not say. */
export function keyStateOf(peer: Pick<Peer, 'keyState'>): string {
  return peer.keyState ?? 'unknown'
}

function describePeer(peer: Peer): string[] {
  const { session, recovery } = peer
  return [
    `${peer.displayName}  ${peer.fleetId}`,
    `keys        ${keyStateOf(peer)}`,
    session === null
      ? 'session     none yet'
      : `session     epoch ${session.epoch} since ${session.startedAt}, ${session.messagesLeft} documents left, ${session.confirmed ? 'confirmed' : 'not confirmed by the peer yet'}`,
    ...(recovery === undefined || recovery === null || recovery.state === 'ok'
      ? []
      : [`recovery    ${recovery.state}${recovery.since === null ? '' : ` since ${recovery.since}`}: ${recovery.reason}`]),
    ...(peer.oldEpochs ? [`old epochs  ${peer.oldEpochs}, kept for messages in flight`] : []),
    ...(peer.rotateEvery ? [`policy      a new epoch every ${peer.rotateEvery} documents`] : []),
    ...(peer.pendingFingerprint ? [`waiting     a new identity with the fingerprint ${peer.pendingFingerprint}; see \`peer verify\``] : []),
  ]
}
