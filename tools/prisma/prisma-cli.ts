/** Runs the Prisma CLI without network: no engine download, no telemetry, no update notice. */
import { spawn } from 'node:child_process'
import path from 'node:path'
import { CACHE, NODE_MODULES, ROOT, type Short } from '../paths.ts'

export interface PrismaRun {
  code: number
  output: string
}

/** @param args without `--config`, which follows from the service */
export function runPrisma(short: Short, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<PrismaRun> {
  return new Promise((resolve, reject) => {
    const child = spawn(
      process.execPath,
      [path.join(NODE_MODULES, 'prisma', 'build', 'index.js'), ...args, '--config', path.join(ROOT, 'prisma', short, 'prisma.config.ts')],
      {
        cwd: ROOT,
        env: {
          ...process.env,
          // `#!/usr/bin/env node` of the stand-in must find this Node, not an older one of the system.
          PATH: `${path.dirname(process.execPath)}${path.delimiter}${process.env.PATH ?? ''}`,
          PRISMA_SCHEMA_ENGINE_BINARY: path.join(ROOT, 'tools', 'prisma', 'schema-engine.mjs'),
          PRISMA_HIDE_UPDATE_MESSAGE: '1',
          CHECKPOINT_DISABLE: '1',
          // Its bundle is large: compiled code is kept for the next run.
          NODE_COMPILE_CACHE: path.join(CACHE, 'compile'),
          NO_COLOR: '1',
          CI: '1',
          ...env,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.once('error', reject)
    child.once('close', (code) => resolve({ code: code ?? 1, output: output.trim() }))
  })
}
