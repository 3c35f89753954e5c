// npm run check: walls, lint, format, types, documents. Each guard is also shown to bite, on files that must fail.
import { execFile } from 'node:child_process'
import { readFileSync, readdirSync, existsSync, statSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { checkDocuments } from './check-documents.mjs'
import { checkLicences } from './check-licences.mjs'
import { checkLimits } from './check-limits.mjs'
import { checkSecrets } from './check-secrets.mjs'

const run = promisify(execFile)
const root = path.resolve(import.meta.dirname, '..')
const bin = (name) => path.join(root, 'node_modules', '.bin', name)
// Tools are started by their "env node" line: node_modules/.bin holds Node 24 and comes first.
const env = {
  ...process.env,
  PATH: `${path.join(root, 'node_modules', '.bin')}:${process.env.PATH}`,
  NX_NO_CLOUD: 'true',
  NX_DAEMON: 'false',
  FORCE_COLOR: '0',
  NX_TUI: 'false',
}
const sh = async (command, args) => {
  try {
    return { code: 0, out: (await run(command, args, { cwd: root, env, maxBuffer: 64 << 20 })).stdout }
  } catch (error) {
    return { code: error.code ?? 1, out: `${error.stdout ?? ''}${error.stderr ?? ''}` }
  }
}
const must = ({ code, out }) => (code === 0 ? [] : [out.trim().split('\n').slice(-40).join('\n')])

const WALL_CANARIES = {
  'tools/canary/libs/invoice-domain/src/reads-a-file.ts': 'domain-is-pure',
  'tools/canary/libs/wire/src/imports-nest.ts': 'protocol-imports-protocol',
  'tools/canary/libs/primitives/src/uses-node-crypto.ts': 'protocol-imports-protocol',
  'tools/canary/libs/contracts/src/imports-nats.ts': 'contracts-import-zod',
  'tools/canary/libs/nats-rpc/src/imports-domain.ts': 'infra-imports',
  'tools/canary/apps/relay-svc/src/imports-ratchet.ts': 'only-session-holds-the-ratchet',
  'tools/canary/apps/invoice-svc/src/imports-another-app.ts': 'apps-never-import-apps',
  'tools/canary/apps/invoice-svc/src/speaks-nats.ts': 'only-nats-rpc-speaks-nats',
  'tools/canary/apps/invoice-svc/src/speaks-libp2p.ts': 'only-relay-speaks-libp2p',
  'tools/canary/apps/cli/src/imports-prisma.ts': 'cli-talks-http-only',
}
const LINT_CANARY = [
  'no-explicit-any',
  'no-floating-promises',
  'Unsafe form',
  'MD5 and SHA-1',
  'operating system',
  'Money is a decimal',
  'never swallowed',
  'No barrels',
]

const cruise = (...args) => sh(bin('depcruise'), ['--config', '.dependency-cruiser.mjs', ...args])

const checks = {
  async walls() {
    return must(await cruise('apps', 'libs'))
  },
  async 'walls canary'() {
    const { out } = await cruise('tools/canary')
    return Object.entries(WALL_CANARIES)
      .filter(([file, rule]) => !out.includes(`error ${rule}: ${file}`))
      .map(([file, rule]) => `${file} no longer breaks the rule ${rule}: the wall does not stand`)
  },
  async graph() {
    const { code, out } = await sh(bin('nx'), ['show', 'projects', '--json'])
    if (code !== 0) return [out]
    const seen = new Set(JSON.parse(out.slice(out.indexOf('['))))
    return ['apps', 'libs'].flatMap((dir) =>
      readdirSync(path.join(root, dir))
        .filter((name) => existsSync(path.join(root, dir, name, 'package.json')))
        .filter((name) => !seen.has(`@tallystick/${name}`))
        .map((name) => `Nx does not see ${dir}/${name}`),
    )
  },
  async types() {
    const built = must(await sh(bin('tsc'), ['-b']))
    return built.length ? built : must(await sh(bin('tsc'), ['-p', 'tsconfig.tests.json']))
  },
  async lint() {
    return must(await sh(bin('eslint'), ['--max-warnings', '0', 'apps', 'libs', 'e2e', 'tools', 'fuzz', 'proofs']))
  },
  async 'lint canary'() {
    const { ESLint } = await import('eslint')
    const { default: config } = await import('../eslint.config.mjs')
    const open = config.filter((c) => !(Object.keys(c).length === 1 && c.ignores))
    const eslint = new ESLint({
      cwd: root,
      overrideConfigFile: true,
      overrideConfig: [
        ...open,
        { files: ['**/*.ts'], languageOptions: { parserOptions: { project: './tools/canary/tsconfig.json', tsconfigRootDir: root } } },
      ],
    })
    const [result] = await eslint.lintFiles(['tools/canary/lint/must-fail.ts'])
    const said = result.messages.map((m) => `${m.ruleId} ${m.message}`).join('\n')
    return LINT_CANARY.filter((rule) => !said.includes(rule)).map((rule) => `the lint rule "${rule}" no longer bites:\n${said}`)
  },
  async format() {
    return must(
      await sh(bin('prettier'), [
        '--check',
        '--log-level',
        'warn',
        'apps/**/*.{ts,mjs}',
        'libs/**/*.{ts,mjs}',
        'e2e/**/*.ts',
        'tools/**/*.{ts,mjs}',
        'proofs/**/*.{ts,mjs}',
        '{bench,fuzz,mutation}/*.{ts,mjs}',
        '*.mjs',
        '*.mts',
      ]),
    )
  },
  documents: async () => checkDocuments(root),
  limits: async () => checkLimits(root),
  licences: async () => checkLicences(root),
  'keys in the code': async () => checkSecrets(root),
  async 'no traces of the machine'() {
    const { out } = await sh('git', ['ls-files', '-z'])
    const problems = []
    for (const file of out.split('\0').filter(Boolean)) {
      const full = path.join(root, file)
      if (!existsSync(full) || !statSync(full).isFile() || statSync(full).size > 2 << 20) continue
      const text = readFileSync(full, 'utf8')
      if (file.endsWith('package-lock.json') && /"resolved": "http/.test(text)) problems.push(`${file} carries download addresses`)
      if (file !== 'tools/check.mjs' && /\bregistry\.npmjs\.org\b/.test(text)) problems.push(`${file} names a registry's host`)
    }
    return problems
  },
}

const wanted = process.argv.slice(2)
const names = Object.keys(checks).filter((name) => wanted.length === 0 || wanted.includes(name))
let failed = 0
const started = Date.now()
// Two at a time: the machine this is meant for has two cores.
const queue = [...names]
await Promise.all(
  [0, 1].map(async () => {
    for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
      const t = Date.now()
      let problems
      try {
        problems = await checks[name]()
      } catch (error) {
        problems = [error.stack ?? String(error)]
      }
      if (problems.length) failed++
      console.log(`${problems.length ? 'FAIL' : 'ok  '} ${name} (${((Date.now() - t) / 1000).toFixed(1)} s)`)
      for (const problem of problems) console.log(problem.replace(/^/gm, '     '))
    }
  }),
)
console.log(`check: ${((Date.now() - started) / 1000).toFixed(1)} s`)
console.log(`${names.length - failed} passed, ${failed} failed`)
process.exit(failed ? 1 : 0)
