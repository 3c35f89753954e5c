import tseslint from 'typescript-eslint'

const restrictedSyntax = [
  {
    selector: 'MemberExpression[property.name=/^\\$(queryRaw|executeRaw)Unsafe$/]',
    message: 'SQL is parameterised: use the tagged template, never the Unsafe form.',
  },
  {
    selector: "CallExpression:matches([callee.property.name='createHash'], [callee.name='createHash'])[arguments.0.value=/^(md5|sha1)$/i]",
    message: 'MD5 and SHA-1 are forbidden (requirement 96).',
  },
  {
    selector: "CallExpression[callee.object.name='Math'][callee.property.name='random']",
    message: 'Randomness comes from the operating system, as an argument.',
  },
  {
    selector: 'TSPropertySignature[key.name=/(amount|price|total)$/i] > TSTypeAnnotation > TSNumberKeyword',
    message: 'Money is a decimal string, never a number (C14).',
  },
  { selector: 'CatchClause > BlockStatement[body.length=0]', message: 'An error is handled or explained, never swallowed silently.' },
  { selector: 'ExportAllDeclaration', message: 'No barrels: import from the file that defines the name.' },
]

export default tseslint.config(
  {
    ignores: [
      '**/node_modules/**',
      '**/dist/**',
      '**/gen/**',
      '.nx/**',
      '.cache/**',
      '.fleet/**',
      '.demo/**',
      'interop/**',
      'tools/canary/**',
      '**/*.config.mts',
    ],
  },
  {
    files: ['**/*.ts', '**/*.mts'],
    languageOptions: { parser: tseslint.parser, parserOptions: { project: './tsconfig.tests.json', tsconfigRootDir: import.meta.dirname } },
    plugins: { '@typescript-eslint': tseslint.plugin },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: { arguments: false, attributes: false, properties: false } }],
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      'no-restricted-syntax': ['error', ...restrictedSyntax],
      'no-eval': 'error',
      'no-implied-eval': 'error',
      'no-var': 'error',
      'prefer-const': 'error',
      eqeqeq: ['error', 'always', { null: 'ignore' }],
    },
  },
  {
    files: ['apps/*/src/**/*.ts', 'libs/*/src/**/*.ts'],
    ignores: ['**/*.spec.ts', 'apps/cli/**'],
    rules: { 'no-console': 'error' },
  },
)
