/** Backups and the age command line. `npm run test:interop` runs the same and fails where this is skipped. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { findAge } from '../../../tools/age.ts'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { decodeBackup } from '../src/backup/backup-file.js'
import { restoreBackup } from '../src/backup/restore-backup.js'
import { writeBackup } from '../src/backup/write-backup.js'
import { TestClock, TestFleet } from './fleet.js'

let folder: string | undefined
let missing: string | undefined
try {
  folder = findAge()
} catch (error) {
  missing = (error as Error).message.split('\n')[0]
  process.stdout.write(`backup-age: not run on this machine: ${missing}\n`)
}

describe('backups and the age command line', () => {
  it(missing === undefined ? 'age is here' : `is not tested here: ${missing}`, () => {
    if (process.env.TALLYSTICK_REQUIRE_AGE === '1') expect(missing).toBeUndefined()
  })

  if (folder !== undefined) {
    const program = (name: string) => path.join(folder, name)
    let postgres: TestPostgres
    let work: string
    beforeAll(async () => {
      postgres = await startPostgres()
      work = mkdtempSync(path.join(os.tmpdir(), 'tallystick-age-'))
    })
    afterAll(async () => {
      await postgres.stop()
      rmSync(work, { recursive: true, force: true })
    })

    it('age opens what the service wrote, and the service restores what age wrote', async () => {
      const clock = new TestClock()
      const key = path.join(work, 'key.txt')
      execFileSync(program('age-keygen'), ['-o', key], { stdio: 'ignore' })
      const recipient = execFileSync(program('age-keygen'), ['-y', key], { encoding: 'utf8' }).trim()
      const fleet = await TestFleet.start({ url: (await postgres.createFleet('kept')).urls.session, clock })
      const backup = await writeBackup(fleet.context, fleet.core.identity, [recipient])
      if (!backup.ok) throw new Error(backup.message)
      writeFileSync(path.join(work, 'backup.age'), backup.file)
      const plain = execFileSync(program('age'), ['-d', '-i', key, path.join(work, 'backup.age')], { maxBuffer: 1 << 20 })
      const content = decodeBackup(plain)
      expect(content.fleetId).toBe(fleet.id)

      const again = execFileSync(program('age'), ['-r', recipient], { input: plain, maxBuffer: 1 << 20 })
      await fleet.stop()
      const restored = await TestFleet.start({
        url: (await postgres.createFleet('kept-2')).urls.session,
        clock,
        before: async (context) => {
          // The file as age-keygen writes it: comments, then the key.
          expect(await restoreBackup(context, { backup: again, identity: readFileSync(key) })).toBe('restored')
        },
      })
      expect(restored.id).toBe(fleet.id)
      await restored.stop()
    })
  }
})
