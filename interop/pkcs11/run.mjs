/**
 * Custody in a PKCS#11 token, against SoftHSM2: the contract suite that the key file passes too, and attempts to get
 * keys out of the token. Fails, and says what to do, when pkcs11js or SoftHSM cannot be had.
 */
import { runSpecs } from '../../tools/testing/run-spec.mjs'

const { passed, failed } = await runSpecs(['apps/session-svc/test/custody-pkcs11.spec.ts'], { TALLYSTICK_REQUIRE_PKCS11: '1' })
process.stdout.write(`${passed} passed, ${failed} failed\n`)
process.exit(failed === 0 ? 0 : 1)
