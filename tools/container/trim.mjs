/**
 * node tools/container/trim.mjs services|setup: leaves of an installed and built tree what that image runs. Used in the
 * image's build only.
 *
 * `npm prune --omit=dev` would not do: Prisma's CLI is a production dependency (migrations need it), is also an optional
 * peer of the client that the services use, and brings two hundred packages and a database server of its own.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'

const ROOT = path.resolve(import.meta.dirname, '..', '..')
const MIGRATIONS_ONLY = ['prisma', '@prisma/schema-engine-wasm']
const SETUP = [...MIGRATIONS_ONLY, '@prisma/adapter-pg', '@prisma/client', '@prisma/driver-adapter-utils', 'nats', 'pg', 'zod']
/** What only `prisma studio` and `prisma dev` load: a user interface, and a database server in WebAssembly. */
const NEVER = [
  'react',
  'react-dom',
  '@types/react',
  'elkjs',
  '@visx',
  '@electric-sql',
  '@prisma/streams-local',
  '@prisma/query-plan-executor',
  'typescript',
  'mysql2',
]
const isNever = (name) => NEVER.includes(name) || NEVER.includes(name.split('/')[0])

const image = process.argv[2]
if (process.env.CI !== 'true') throw new Error('this removes source code: it is for the build of the image')
if (image !== 'services' && image !== 'setup') throw new Error('which image: services or setup')

const manifest = (folder) => JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'))
const own = Object.keys(manifest(ROOT).dependencies)
const wanted = image === 'setup' ? SETUP : own.filter((name) => !MIGRATIONS_ONLY.includes(name))

/** Folder of a package as Node would find it from another one. */
function locate(name, from) {
  for (let folder = from; ; folder = path.dirname(folder)) {
    const candidate = path.join(folder, 'node_modules', name)
    if (existsSync(path.join(candidate, 'package.json'))) return candidate
    if (folder === ROOT) return undefined
  }
}

const kept = new Set()
function keep(folder) {
  if (kept.has(folder)) return
  kept.add(folder)
  const { dependencies = {}, optionalDependencies = {}, peerDependencies = {}, peerDependenciesMeta = {} } = manifest(folder)
  for (const name of Object.keys({ ...peerDependencies, ...optionalDependencies, ...dependencies })) {
    if (isNever(name)) continue
    const found = locate(name, folder)
    const mayMiss = name in optionalDependencies || peerDependenciesMeta[name]?.optional === true
    if (found === undefined && !mayMiss) throw new Error(`${path.relative(ROOT, folder)} needs ${name}, which is not installed`)
    // An optional peer is kept where somebody else needs it.
    if (found !== undefined && (name in dependencies || name in optionalDependencies || !mayMiss)) keep(found)
  }
}
for (const name of wanted) {
  const found = locate(name, ROOT)
  if (found === undefined) throw new Error(`${name} is not installed`)
  keep(found)
}

const remove = (...parts) => rmSync(path.join(...parts), { recursive: true, force: true })
const folders = (folder) => (existsSync(folder) ? readdirSync(folder, { withFileTypes: true }) : [])

function prune(modules) {
  for (const entry of folders(modules)) {
    const at = path.join(modules, entry.name)
    if (entry.isSymbolicLink()) continue // a workspace
    if (entry.name.startsWith('@')) {
      prune(at)
      if (folders(at).length === 0) remove(at)
    } else if (!kept.has(at)) remove(at)
    else prune(path.join(at, 'node_modules'))
  }
}
prune(path.join(ROOT, 'node_modules'))

const under = (folder, unwanted) => {
  for (const entry of readdirSync(path.join(ROOT, folder), { recursive: true, withFileTypes: true })) {
    if (entry.isFile() && unwanted(entry.name)) remove(entry.parentPath, entry.name)
  }
}
under('node_modules', (name) => /\.(map|d\.[cm]?ts)$/.test(name))
for (const group of ['apps', 'libs']) {
  for (const { name } of folders(path.join(ROOT, group))) {
    for (const part of ['src', 'tsconfig.json', 'tsconfig.tsbuildinfo']) remove(ROOT, group, name, part)
  }
  under(group, (name) => /\.(d\.ts|map)$/.test(name))
}

const platform = `${process.platform}-${process.arch}`
const prebuilds = path.join(ROOT, 'node_modules', 'sodium-native', 'prebuilds')
for (const { name } of folders(prebuilds)) if (name !== platform) remove(prebuilds, name)
// The generated clients name one of Prisma's query compilers: PostgreSQL's, the fast one.
under('node_modules/@prisma/client/runtime', (name) => /^query_compiler_/.test(name) && !/^query_compiler_fast_bg\.postgresql\./.test(name))

process.stdout.write(`${image}: ${kept.size} packages\n`)
