/** Backups against the age command line in Go: it opens what the service writes, and the service restores what it wrote. */
import { runSpecs } from '../../tools/testing/run-spec.mjs'

const { passed, failed } = await runSpecs(['apps/session-svc/test/backup-age.spec.ts'], { TALLYSTICK_REQUIRE_AGE: '1' })
process.stdout.write(`${passed} passed, ${failed} failed\n`)
process.exit(failed === 0 ? 0 : 1)
