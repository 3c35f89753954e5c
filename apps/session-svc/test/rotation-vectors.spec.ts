/**
 * rotation.json against the decision that the service makes: which handshakes it answers, with which salt, and which of
 * two sessions it sends on. What the ratchet makes of them is tested beside the ratchet.
 * @see docs/spec/session.md §7, §11
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { fromHex, toHex } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { describe as describeState } from '@tallystick/ratchet/double-ratchet'
import { SecretArena, type SecretBytes, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import { decodeEnvelope, decodeHandshake } from '@tallystick/wire/envelope'
import type { RotationCase, RotationFile } from '../../../libs/ratchet/test/rotation-cases.js'
import { playEarlier } from '../../../libs/ratchet/test/rotation-players.js'
import { horizon, type KnownSession } from '../../../libs/ratchet/test/rotation-rule.js'
import { SecretScope } from '../src/custody/secret-scope.js'
import { outranks } from '../src/sessions/epochs.js'
import { EarlyHandshake, judgeHandshake, type JudgeRequest } from '../src/sessions/judge-handshake.js'

const FILE = path.resolve(import.meta.dirname, '../../../docs/spec/vectors/rotation.json')
const bytesOf = (secret: SecretBytes): Uint8Array => withSecret(secret, (bytes) => bytes.slice())

/** What the store would find in the database. */
function storeOf(arena: SecretArena, sessions: readonly KnownSession[]): JudgeRequest['store'] {
  const { h, a } = horizon(sessions)
  const answered = Math.max(0, ...sessions.filter(({ ours }) => !ours).map(({ epoch }) => epoch))
  const store = {
    standing: () => Promise.resolve({ highest: a, settled: h, answered }),
    ofEpoch: (_tx: unknown, _fleetId: string, wanted: number) =>
      Promise.resolve(
        sessions
          .filter(({ epoch }) => epoch === wanted)
          .map((session) => ({ lost: session.lost, sentApplication: describeState(session.state).sent, sentControl: 0, session })),
      ),
    openState: (_context: unknown, { session }: { session: KnownSession }) => secretFrom(arena, bytesOf(session.state)),
  }
  return store as unknown as JudgeRequest['store']
}

async function judge(
  arena: SecretArena,
  c: RotationCase,
  sessions: readonly KnownSession[],
): Promise<{ code: string; salt: string | null }> {
  return SecretScope.run(async (scope) => {
    const request = {
      context: { arena, clock: { now: () => c.now! }, limits: {} },
      store: storeOf(arena, sessions),
      tx: {},
      scope,
      fleetId: 'peer',
      // A reset that was asked for: policy allows it.
      recovery: { state: 'resync_sent' },
      envelope: decodeEnvelope(fromHex(c.envelope!)),
    } as unknown as JudgeRequest
    try {
      const salt = scope.own(await judgeHandshake(request))
      return { code: 'ok', salt: salt === undefined ? null : toHex(bytesOf(salt)) }
    } catch (error) {
      if (error instanceof EarlyHandshake) return { code: 'NotReady', salt: null }
      if (error instanceof ProtocolError) return { code: error.code, salt: null }
      throw error
    }
  })
}

it('rotation.json: the service judges every handshake as it says', async () => {
  const file = JSON.parse(readFileSync(FILE, 'utf8')) as RotationFile
  const arena = SecretArena.open(1024 * 1024, { allowUnlocked: true })
  const seen = { answered: 0, refused: 0, crossed: 0 }
  for (const c of file.cases) {
    if (c.do === 'cross') {
      const [ours, theirs] = [c.ours!, c.theirs!].map(({ epoch, handshake }) => ({
        epoch,
        ephemeralKey: decodeHandshake(fromHex(handshake)).ek,
      }))
      expect(outranks(ours!, theirs!) ? 'ours' : 'theirs', c.id).toBe(c.winner)
      seen.crossed++
      continue
    }
    if (c.do === 'begin') continue
    const sessions = c.sessions.map((name) => playEarlier(arena, file, file.earlier[name]!))
    const { code, salt } = await judge(arena, c, sessions)
    // Whatever is wrong beyond the handshake shows when the message is opened.
    expect(code, c.id).toBe(c.expect === 'Decryption' ? 'ok' : c.expect)
    if (c.expect === 'ok') expect(salt, c.id).toBe(c.exporter)
    if (code === 'ok') seen.answered++
    else seen.refused++
    for (const { state } of sessions) state.destroy()
  }
  process.stdout.write(`rotation.json: ${seen.answered} handshakes answered, ${seen.refused} refused, ${seen.crossed} crossings decided\n`)
  expect(seen.answered).toBeGreaterThan(10)
  expect(seen.refused).toBeGreaterThan(10)
  arena.close()
}, 60_000)
