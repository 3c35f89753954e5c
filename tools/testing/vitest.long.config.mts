import { defineConfig, mergeConfig } from 'vitest/config'
import base from '../../vitest.config.mts'

// `npm run test:long`: the tests that take minutes.
export default mergeConfig(
  { ...base, test: { ...base.test, include: [], exclude: [] } },
  defineConfig({
    test: {
      include: ['{libs,apps,e2e,tools,proofs}/**/*.long.spec.ts'],
      exclude: ['**/node_modules/**', '**/dist/**'],
      passWithNoTests: true,
      testTimeout: 900_000,
    },
  }),
)
