/**
 * Mistakes in the source that would be fatal, one at a time in a copy of the libraries: each must be caught by the test
 * that is named for it. The other mutants of the ratchet are in mutants.spec.ts, those of persistence in proofs/.
 */
import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'

const ROOT = path.resolve(import.meta.dirname, '../../..')
const LIBRARIES = ['secret-bytes', 'primitives', 'wire', 'ratchet']

interface SourceMutant {
  readonly name: string
  readonly file: string
  readonly from: string
  readonly to: string
  readonly spec: string
  /** Names of tests; each of them must fail. */
  readonly caughtBy: readonly string[]
}

const MUTANTS: readonly SourceMutant[] = [
  {
    name: 'no all-zero check',
    file: 'primitives/src/x25519.ts',
    from: "throw new ProtocolError('InvalidPublicKey', 'X25519 gave the all-zero value', { cause })",
    to: 'void cause',
    spec: 'libs/ratchet/test/vectors.spec.ts',
    caughtBy: ['pqxdh.json'],
  },
  {
    name: 'lax Ed25519',
    file: 'primitives/src/ed25519.ts',
    from: 'return native.crypto_sign_verify_detached(signature, message, publicKey)',
    to: 'return lax.verify(signature, message, publicKey, { zip215: true })',
    spec: 'libs/primitives/test/differential.spec.ts',
    caughtBy: [
      'Ed25519 is cofactorless: a torsion residue is refused where the cofactored equation would hold',
      'Ed25519 refuses small-order A and R, and S that is not below the group order',
    ],
  },
  {
    name: 'the commitment is not checked',
    file: 'ratchet/src/chains.ts',
    from: 'if (!equalConstantTime(blake3Keyed(commitmentKey, plaintext), message.commit)) {',
    to: 'if (equalConstantTime(message.commit, plaintext)) {',
    spec: 'libs/ratchet/test/vectors.spec.ts',
    caughtBy: ['ratchet.json', 'primitives.json'],
  },
  {
    name: 'the state is committed before the tag',
    file: 'ratchet/src/double-ratchet.ts',
    from: 'derive(arena, old, plan, envelope.header, work)',
    to: "derive(arena, old, plan, envelope.header, work); if (plan.kind === 'chain') old.receivingChain.set(work.chain)",
    spec: 'libs/ratchet/test/double-ratchet.spec.ts',
    caughtBy: ['a changed commitment is VerificationFailed and does not burn the key of the genuine message'],
  },
  {
    name: 'a second spelling of an integer is read',
    file: 'wire/src/envelope-layout.ts',
    from: 'return uintBytes(value) === width + 1 ? value : -1',
    to: 'return value',
    spec: 'libs/ratchet/test/vectors.spec.ts',
    caughtBy: ['envelope.json'],
  },
  {
    name: 'a reset is not in the transcript',
    file: 'ratchet/src/pqxdh.ts',
    from: 'if (reset === true) return Uint8Array.of(2)',
    to: 'if (reset === true) return Uint8Array.of(0)',
    spec: 'libs/ratchet/test/rotation-vectors.spec.ts',
    caughtBy: ['rotation.json'],
  },
]

let stage: string
beforeAll(() => {
  stage = mkdtempSync(path.join(os.tmpdir(), 'tallystick-mutants-'))
  for (const library of LIBRARIES)
    for (const part of ['src', 'test', 'package.json']) {
      const from = path.join(ROOT, 'libs', library, part)
      if (existsSync(from)) cpSync(from, path.join(stage, 'libs', library, part), { recursive: true })
    }
  mkdirSync(path.join(stage, 'docs', 'spec'), { recursive: true })
  symlinkSync(path.join(ROOT, 'docs', 'spec', 'vectors'), path.join(stage, 'docs', 'spec', 'vectors'))
  symlinkSync(path.join(ROOT, 'node_modules'), path.join(stage, 'node_modules'))
  writeFileSync(path.join(stage, 'tsconfig.json'), '{"compilerOptions":{"target":"ES2024","module":"NodeNext","strict":true}}')
  // The links of the workspace lead to the sources without mutants.
  writeFileSync(
    path.join(stage, 'vitest.config.mjs'),
    `export default { resolve: { alias: [{ find: /^@tallystick\\/([a-z-]+)\\/(.+)$/, replacement: ${JSON.stringify(stage)} + '/libs/$1/src/$2.ts' }] },
       test: { include: ['libs/**/*.spec.ts'], testTimeout: 60_000 } }`,
  )
})
afterAll(() => rmSync(stage, { recursive: true, force: true }))

/** @returns names of the tests that passed and of those that failed */
async function runSpecs(...specs: string[]): Promise<{ passed: string[]; failed: string[] }> {
  const result = path.join(stage, 'result.json')
  rmSync(result, { force: true })
  const vitest = path.join(ROOT, 'node_modules', 'vitest', 'vitest.mjs')
  const flags = [
    'run',
    '--root',
    stage,
    '--config',
    path.join(stage, 'vitest.config.mjs'),
    '--reporter=json',
    `--outputFile=${result}`,
    ...specs,
  ]
  // Vitest ends with 1 when a test fails, which is what is wanted here; without a result nothing was tried.
  await new Promise<void>((resolve) => execFile(process.execPath, [vitest, ...flags], { cwd: stage }, () => resolve()))
  const { testResults } = JSON.parse(readFileSync(result, 'utf8')) as {
    testResults: { message: string; assertionResults: { title: string; status: string }[] }[]
  }
  const all = testResults.flatMap(({ assertionResults }) => assertionResults)
  expect(all.length, testResults.map(({ message }) => message).join('\n')).toBeGreaterThan(0)
  const named = (status: string): string[] => all.filter((one) => one.status === status).map(({ title }) => title)
  return { passed: named('passed'), failed: named('failed') }
}

test.each(MUTANTS)(
  '$name',
  async ({ file, from, to, spec, caughtBy }) => {
    const target = path.join(stage, 'libs', file)
    const source = readFileSync(target, 'utf8')
    expect(source.split(from), 'the place to change is there once').toHaveLength(2)
    const changed = source.replace(from, to)
    const lax = "import { ed25519 as lax } from '@noble/curves/ed25519.js'\n"
    writeFileSync(target, to.includes('lax.') ? lax + changed : changed)
    try {
      expect((await runSpecs(spec)).failed).toEqual(expect.arrayContaining([...caughtBy]))
    } finally {
      writeFileSync(target, source)
    }
  },
  120_000,
)

test('without a mutant all of them pass', async () => {
  const { passed, failed } = await runSpecs(...new Set(MUTANTS.map(({ spec }) => spec)))
  expect(failed).toEqual([])
  expect(passed).toEqual(expect.arrayContaining(MUTANTS.flatMap(({ caughtBy }) => caughtBy)))
}, 240_000)
