import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

const root = resolve(import.meta.dirname, '..')
const { tests, last = [] } = JSON.parse(readFileSync(resolve(root, 'group.json'), 'utf8')) as { tests: string[]; last?: string[] }

/** A mutant's run ends with the first test that fails: the slow ones come last. */
class SlowLast extends BaseSequencer {
  override sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isSlow = ({ moduleId }: TestSpecification): number => (last.some((name) => moduleId.endsWith(name)) ? 1 : 0)
    return Promise.resolve(files.toSorted((a, b) => isSlow(a) - isSlow(b)))
  }
}

// The workspace links in node_modules lead out of Stryker's sandbox, to sources without mutants: libraries are taken
// from the sandbox itself.
export default defineConfig({
  root,
  resolve: {
    alias: [{ find: /^@tallystick\/([a-z-]+)\/(.+)$/, replacement: `${root}/libs/$1/src/$2.ts` }],
    conditions: ['source', 'node', 'default'],
  },
  ssr: { resolve: { conditions: ['source', 'node', 'default'] } },
  test: {
    include: tests,
    // The model of two fleets takes seconds for each mutant (README.md), and mutants of mutants prove nothing.
    exclude: ['**/node_modules/**', '**/dist/**', '**/*.long.spec.ts', '**/properties.spec.ts', '**/*mutants.spec.ts'],
    // One thread for all files of a run: starting one for each file would take most of the time.
    isolate: false,
    sequence: { sequencer: SlowLast },
    testTimeout: 60_000,
  },
})
