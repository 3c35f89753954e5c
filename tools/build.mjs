#!/usr/bin/env node
/**
 * Generates the Prisma clients whose schema has changed, then compiles every project (TypeScript project references).
 * `--quiet`: no line when nothing had to be done.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { onNode24 } from './process/node24.mjs'

const ROOT = path.resolve(import.meta.dirname, '..')
const STAMPS = path.join(ROOT, '.cache', 'prisma-generate.json')
const quiet = process.argv.includes('--quiet')

if (onNode24()) await main()

async function main() {
  const started = Date.now()
  const generated = await generateClients()
  const compiled = await compile()
  if (!quiet || generated.length > 0 || compiled) {
    const what = [generated.length > 0 && `Prisma clients: ${generated.join(', ')}`, compiled ? 'TypeScript' : 'TypeScript up to date']
      .filter(Boolean)
      .join('; ')
    process.stderr.write(`built in ${((Date.now() - started) / 1000).toFixed(1)} s (${what})\n`)
  }
}

function fail(text) {
  process.stderr.write(`${text}\n`)
  process.exit(1)
}

/** @returns short names of the services whose client was made anew */
async function generateClients() {
  const { runPrisma } = await import('./prisma/prisma-cli.ts')
  const { SHORTS } = await import('./paths.ts')
  const stamps = existsSync(STAMPS) ? JSON.parse(readFileSync(STAMPS, 'utf8')) : {}
  const version = JSON.parse(readFileSync(path.join(ROOT, 'node_modules', 'prisma', 'package.json'), 'utf8')).version
  const stale = []
  for (const short of SHORTS) {
    const schema = path.join(ROOT, 'prisma', short, 'schema.prisma')
    if (!existsSync(schema)) continue
    const stamp = createHash('sha256').update(version).update(readFileSync(schema)).digest('hex')
    if (stamps[short] !== stamp || !existsSync(path.join(ROOT, 'apps', `${short}-svc`, 'src', 'gen'))) stale.push([short, stamp])
  }
  if (stale.length === 0) return []
  process.stderr.write(`generating Prisma clients: ${stale.map(([short]) => short).join(', ')}\n`)
  const runs = await Promise.all(stale.map(async ([short]) => ({ short, ...(await runPrisma(short, ['generate'])) })))
  for (const { short, code, output } of runs) if (code !== 0) fail(`prisma generate failed for ${short}:\n${output}`)
  // The incremental compiler does not notice all files of a client that was replaced under it.
  for (const [short] of stale) rmSync(path.join(ROOT, 'apps', `${short}-svc`, 'tsconfig.tsbuildinfo'), { force: true })
  mkdirSync(path.dirname(STAMPS), { recursive: true })
  writeFileSync(STAMPS, JSON.stringify({ ...stamps, ...Object.fromEntries(stale) }))
  return stale.map(([short]) => short)
}

/** @returns whether anything was compiled */
function compile() {
  return new Promise((resolve) => {
    // The TypeScript 7 compiler is a program of its own; `typescript` (5.9) serves the linter.
    const tsc = path.join(ROOT, 'node_modules', 'ts7', 'bin', 'tsc')
    const child = spawn(process.execPath, [tsc, '-b', '--verbose', '--pretty', String(process.stderr.isTTY ?? false)], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let output = ''
    child.stdout.on('data', (chunk) => (output += chunk))
    child.once('exit', (code) => {
      if (code !== 0)
        fail(
          `TypeScript:\n${output
            .split('\n')
            .filter((line) => !/^\[?\d+:\d+:\d+|^\s*$|Project '|Building project|Projects in this build|^\s+\* /.test(line))
            .join('\n')}`,
        )
      resolve(/Building project/.test(output))
    })
  })
}
