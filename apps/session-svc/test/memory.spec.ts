/** What is left of keys in memory. The long form, with more keys and messages, is memory.long.spec.ts. */
import { randomBytes } from 'node:crypto'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { FORMS, KeyScanner } from './memory-scan.ts'
import { searchTheMemoryOfAService } from './memory-run.ts'

const onLinux = process.platform === 'linux'

describe('memory', { timeout: 240_000 }, () => {
  it(onLinux ? 'the scanner finds keys that were left on the heap, in each form' : 'is searched on Linux only', async () => {
    if (!onLinux) return
    const keys = Array.from({ length: 50 }, () => randomBytes(32))
    const child = spawn(process.execPath, [path.join(import.meta.dirname, 'memory-control.mjs')], { stdio: ['pipe', 'pipe', 'inherit'] })
    try {
      child.stdin.write(Buffer.concat(keys))
      await once(child.stdout, 'data')
      const { findings, bytes } = new KeyScanner(keys).process(child.pid!)
      const expected = keys.map((_, i) => ['raw', 'hex', 'base64', 'base64url', 'clamped'][i % 5])
      const found = expected.filter((form, key) => findings.some((finding) => finding.key === key && finding.form === form))
      process.stdout.write(
        `memory: control: ${found.length} found of 50 keys that were left on the heap in ${FORMS.length} forms, ${(bytes / 1e6).toFixed(0)} MB searched\n`,
      )
      expect(found).toHaveLength(50)
    } finally {
      child.kill('SIGKILL')
    }
  })

  it(onLinux ? 'nothing is left of 50 session keys after rotation and deletion' : 'of a service is searched on Linux only', async () => {
    if (onLinux) await searchTheMemoryOfAService({ keys: 50, roundTrips: 20 })
  })
})
