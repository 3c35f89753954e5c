/** `tallystick peer invite|add|verify|consent|list`. */
import { existsSync } from 'node:fs'
import { type Api, readText } from '../api.js'
import { EXIT, type ExitCode, type Printer } from '../outcome.js'

interface Peer {
  fleetId: string
  displayName: string
  fingerprint: string
  state: string
  verified: boolean
  cause: string | null
  session: { epoch: number; messagesLeft: number } | null
  connection: { connected: boolean; transport: string | null } | null
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

export async function peerVerify(api: Api, id: string, fingerprint: string | undefined, print: Printer): Promise<ExitCode> {
  const peer = await api.post<Peer>(`/v1/peers/${encodeURIComponent(id)}/verify`, fingerprint === undefined ? {} : { fingerprint })
  print.line(`verified ${peer.displayName}  ${peer.fleetId}`)
  print.result(peer)
  return EXIT.ok
}

export async function peerList(api: Api, print: Printer): Promise<ExitCode> {
  const items: Peer[] = []
  let after: string | null = null
  do {
    const page: { items: Peer[]; next: string | null } = await api.get(
      `/v1/peers?limit=100${after === null ? '' : `&after=${encodeURIComponent(after)}`}`,
    )
    items.push(...page.items)
    after = page.next
  } while (after !== null)
  for (const peer of items)
    print.line(
      `${peer.fleetId}  ${peer.state.padEnd(8)} ${peer.verified ? 'verified  ' : 'unverified'}  ${peer.displayName}${peer.cause === null ? '' : `  (${peer.cause})`}`,
    )
  if (items.length === 0) print.line('no peers yet')
  print.result({ items })
  return EXIT.ok
}
