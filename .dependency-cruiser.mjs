// The walls of docs/architecture.md. tools/canary holds files that must fail each of these rules, so every path may
// start with tools/canary/: a rule that no longer bites is found by the canary, not by a reader.
const at = (path) => `^(?:tools/canary/)?${path}`
const lib = (...names) => `^(?:tools/canary/)?(?:node_modules/@tallystick|@tallystick|libs)/(${names.join('|')})/`
const npm = (...names) => `^(node_modules/)?(${names.join('|')})(/|$)`
const SPEC = '[.]spec[.]ts$|/test/|/vectors/'

const DOMAIN = ['invoice-domain', 'ubl']
const PROTOCOL = ['secret-bytes', 'primitives', 'wire', 'ratchet', 'merkle-log']
const INFRA = ['nats-rpc', 'service-host', 'audit-outbox']

/** Everything that `allowed` does not name is an error. */
const only = (name, comment, from, allowed, extra = {}) => ({
  name,
  comment,
  severity: 'error',
  from: { path: from, pathNot: SPEC, ...extra },
  to: { pathNot: allowed },
})

export default {
  forbidden: [
    only('domain-is-pure', 'domain code imports nothing but domain code and a decimal library', at('libs/invoice-domain/'), [
      lib('invoice-domain'),
      npm('decimal[.]js'),
    ]),
    only('ubl-is-pure', 'ubl imports the domain and an XML parser', at('libs/ubl/'), [
      lib(...DOMAIN),
      npm('decimal[.]js', 'fast-xml-parser'),
    ]),
    only(
      'protocol-imports-protocol',
      'protocol code imports protocol code, @noble, sodium-native and cborg',
      at(`libs/(${PROTOCOL.join('|')})/`),
      [lib(...PROTOCOL), npm('@noble', 'sodium-native', 'cborg')],
      { pathNot: `${SPEC}|libs/primitives/src/mlkem1024[.]ts$` },
    ),
    only('mlkem-may-use-node-crypto', 'the one protocol file that uses node:crypto', at('libs/primitives/src/mlkem1024[.]ts$'), [
      lib(...PROTOCOL),
      npm('@noble'),
      '^(node:)?crypto$',
    ]),
    only('contracts-import-zod', 'contracts import zod', at('libs/contracts/'), [lib('contracts'), npm('zod')]),
    only('infra-imports', 'infra imports contracts, Nest, nats, opossum, prom-client, pino', at(`libs/(${INFRA.join('|')})/`), [
      lib('contracts', ...INFRA),
      npm('@nestjs', 'nats', 'opossum', 'prom-client', 'pino', 'rxjs', 'zod', 'cborg', 'reflect-metadata', 'fastify'),
      '^node:|^(crypto|fs|http|os|path|process|timers|async_hooks|events|buffer|perf_hooks|url|util)(/|$)',
    ]),
    {
      name: 'apps-never-import-apps',
      comment: 'an app never imports another app',
      severity: 'error',
      from: { path: at('apps/([^/]+)/') },
      to: { path: at('apps/([^/]+)/'), pathNot: '^(?:tools/canary/)?apps/$1/' },
    },
    { name: 'libs-never-import-apps', severity: 'error', from: { path: at('libs/') }, to: { path: at('apps/') } },
    {
      name: 'only-nats-rpc-speaks-nats',
      comment: 'one place wraps a call',
      severity: 'error',
      from: { path: at('(apps|libs)/'), pathNot: `${SPEC}|^libs/nats-rpc/` },
      to: { path: npm('nats', 'opossum') },
    },
    {
      name: 'only-session-holds-the-ratchet',
      severity: 'error',
      from: { path: at('apps/'), pathNot: `${SPEC}|^(?:tools/canary/)?apps/session-svc/` },
      to: { path: lib('ratchet') },
    },
    {
      name: 'only-relay-speaks-libp2p',
      comment: 'all network operations go through one network API',
      severity: 'error',
      from: { path: at('(apps|libs)/'), pathNot: `${SPEC}|^(?:tools/canary/)?apps/relay-svc/` },
      to: { path: npm('libp2p', '@libp2p', '@chainsafe', '@multiformats') },
    },
    {
      name: 'relay-never-sees-meaning',
      comment: 'relay knows bytes: no domain, no ratchet',
      severity: 'error',
      from: { path: at('apps/relay-svc/'), pathNot: SPEC },
      to: { path: lib(...DOMAIN, 'ratchet', 'merkle-log') },
    },
    {
      name: 'cli-talks-http-only',
      severity: 'error',
      from: { path: at('apps/cli/'), pathNot: SPEC },
      to: { path: [lib('contracts', ...INFRA, 'ratchet'), npm('nats', 'pg', '@prisma')] },
    },
    {
      name: 'no-cycles',
      severity: 'error',
      from: { path: '^(apps|libs)/', pathNot: '/gen/' },
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] }, pathNot: '/gen/' },
    },
  ],
  options: {
    doNotFollow: { path: ['node_modules', '/gen/'] },
    exclude: { path: ['^(apps|libs)/[^/]+/dist/', '/gen/'] },
    tsPreCompilationDeps: true,
    combinedDependencies: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['source', 'node', 'import', 'types', 'default'],
      extensions: ['.ts', '.mts', '.js', '.mjs', '.json'],
    },
    tsConfig: { fileName: 'tsconfig.tests.json' },
  },
}
