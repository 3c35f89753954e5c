import path from 'node:path'
import { defineConfig } from 'vitest/config'

// Two whole fleets as real processes: one file at a time.
export default defineConfig({
  root: path.resolve(import.meta.dirname, '..'),
  resolve: { conditions: ['source', 'node', 'default'] },
  ssr: { resolve: { conditions: ['source', 'node', 'default'] } },
  test: {
    include: ['e2e/**/*.spec.ts'],
    exclude: ['**/*.long.spec.ts', '**/node_modules/**'],
    pool: 'forks',
    maxWorkers: 1,
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 180_000,
  },
})
