/** `tallystick peer invite|add|verify|consent|list`. */
import { existsSync } from 'node:fs'
import { type Api, readText } from '../api.js'
import { CommandError, EXIT, type ExitCode, type Printer } from '../outcome.js'

export interface Peer {
  fleetId: string
  displayName: string
  fingerprint: string
  state: string
  verified: boolean
  cause: string | null
  session: { epoch: number; startedAt: string; messagesLeft: number; confirmed: boolean } | null
  connection: { connected: boolean; transport: string | null } | null
  /** Absent from services of an earlier version, as the rest. */
  keyState?: string | null
  pendingFingerprint?: string | null
  recovery?: { state: string; reason: string; since: string | null } | null
  oldEpochs?: number | null
  rotateEvery?: number | null
}

/** @param invitation the line itself, a file that holds it, or `-` for standard input */
export async function peerAdd(api: Api, invitation: string, print: Printer): Promise<ExitCode> {
  const line =
    invitation === '-' || (!invitation.trim().toLowerCase().startsWith('tally') && existsSync(invitation))
      ? readText(invitation, 'invitation')
      : invitation
  const peer = await api.post<Peer>('/v1/peers', { invitation: line.trim() })
  print.line(`pinned ${peer.displayName}  ${peer.fleetId}`)
  if (!peer.verified) {
    print.line('Compare this fingerprint with them by telephone or in person, then run `tallystick peer verify`:')
    print.line(`  ${peer.fingerprint}`)
  }
  print.result(peer)
  return EXIT.ok
}

/** The line that the other side gives to `peer add`. */
export async function peerInvite(api: Api, print: Printer): Promise<ExitCode> {
  const fleet = await api.get<{ invitation: string; fingerprint: string }>('/v1/fleet')
  print.line(fleet.invitation)
  print.result({ invitation: fleet.invitation, fingerprint: fleet.fingerprint })
  return EXIT.ok
}

const KINDS = ['invoice', 'credit-note', 'verdict']

/** Nothing is sent to a peer without a consent to share; a consent to log lets the audit log prove what was exchanged. */
export async function peerConsent(api: Api, id: string, purposes: readonly string[], print: Printer): Promise<ExitCode> {
  const granted: unknown[] = []
  for (const purpose of purposes) {
    granted.push(await api.post('/v1/consents', { peerId: id, purpose, kinds: KINDS }))
    print.line(`consent to ${purpose} ${KINDS.join(', ')} with ${id}`)
  }
  print.result({ items: granted })
  return EXIT.ok
}

/**
 * Without a fingerprint a peer whose keys are the pinned ones is marked as compared; a new identity that waits is only
 * shown, beside the old one: it is approved by typing what the peer's people have read.
 */
export async function peerVerify(api: Api, id: string, fingerprint: string | undefined, print: Printer): Promise<ExitCode> {
  const path = `/v1/peers/${encodeURIComponent(id)}`
  const { displayName, pendingFingerprint, fingerprint: pinned } = await api.get<Peer>(path)
  const waits = pendingFingerprint !== undefined && pendingFingerprint !== null
  if (waits && fingerprint === undefined) {
    print.line(`${displayName} has new identity keys. Nothing is exchanged with it until a person has compared them.`)
    print.line(`  old fingerprint  ${pinned}`)
    print.line(`  NEW fingerprint  ${pendingFingerprint}`)
    print.line(
      'Call its people, on a number that you had before. Ask whether they changed their keys, and let them read the new fingerprint.',
    )
    print.line('Whoever stole the old keys could show a new identity too: only this comparison tells.')
    throw new CommandError(
      EXIT.validation,
      `Nothing was approved. To approve: tallystick peer verify ${id} --fingerprint '<as they read it>'`,
      { fleetId: id, pendingFingerprint },
    )
  }
  const peer = await api.post<Peer>(`${path}/verify`, fingerprint === undefined ? {} : { fingerprint })
  print.line(waits ? `approved the new identity of ${peer.displayName}  ${peer.fleetId}` : `verified ${peer.displayName}  ${peer.fleetId}`)
  if (waits) print.line('A new session begins with the next message; what waited goes on by itself.')
  print.result(peer)
  return EXIT.ok
}

export async function peerList(api: Api, print: Printer): Promise<ExitCode> {
  const items = await allPeers(api)
  for (const peer of items)
    print.line(
      `${peer.fleetId}  ${peer.state.padEnd(8)} ${peer.verified ? 'verified  ' : 'unverified'}  ${(peer.keyState ?? 'unknown').padEnd(16)}  ${peer.displayName}${peer.cause === null ? '' : `  (${peer.cause})`}`,
    )
  if (items.length === 0) print.line('no peers yet')
  print.result({ items })
  return EXIT.ok
}

/** Every page. */
export async function allPeers(api: Api): Promise<Peer[]> {
  const items: Peer[] = []
  let after: string | null = null
  do {
    const page: { items: Peer[]; next: string | null } = await api.get(
      `/v1/peers?limit=100${after === null ? '' : `&after=${encodeURIComponent(after)}`}`,
    )
    items.push(...page.items)
    after = page.next ?? null
  } while (after !== null)
  return items
}
