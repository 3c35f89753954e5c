#!/usr/bin/env node
/**
 * Stands in for Prisma's native `schema-engine` program, which its CLI would download: same arguments, same JSON-RPC on
 * standard input and output, carried out by the WebAssembly build of the same engine (npm, in the lockfile) over
 * @prisma/adapter-pg. Named to the CLI by PRISMA_SCHEMA_ENGINE_BINARY.
 *
 * Five faults of the 7.10 packages are worked round; each place is marked (1) to (5).
 */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { PrismaPg } from '@prisma/adapter-pg'
import { bindMigrationAwareSqlAdapterFactory, ColumnTypeEnum } from '@prisma/driver-adapter-utils'
import * as bindings from '@prisma/schema-engine-wasm/schema_engine_bg'
import pg from 'pg'

const { command, datasource, datamodels } = readArguments(process.argv.slice(2))
const DEBUG = process.env.TALLYSTICK_SCHEMA_ENGINE_DEBUG === '1'

function readArguments(args) {
  const out = { command: undefined, datasource: {}, datamodels: [] }
  for (let i = 0; i < args.length; i++) {
    if (args[i] === '--version') out.command = 'version'
    else if (args[i] === '--datasource') out.datasource = JSON.parse(args[++i])
    else if (args[i] === '--datamodels') out.datamodels.push(args[++i])
    else if (args[i] === 'cli') out.command = args[++i]
    else if (args[i].startsWith('--')) i++
  }
  return out
}

/** The CLI reads progress and errors as JSON lines on standard error. */
function log(level, message, extra = {}) {
  process.stderr.write(
    `${JSON.stringify({ timestamp: new Date().toISOString(), level, fields: { message, ...extra }, target: 'schema_engine::logger' })}\n`,
  )
}

// ---------------------------------------------------------------- connections

/** Prisma's own parameters are not PostgreSQL's. */
function parseUrl(text) {
  const url = new URL(text)
  const schema = url.searchParams.get('schema') ?? 'public'
  for (const key of ['schema', 'connection_limit', 'pool_timeout', 'pgbouncer', 'statement_cache_size']) url.searchParams.delete(key)
  return { url, schema }
}

/** A URL without a password leaves it to PGPASSFILE, so that it never stands in an argument list. */
function connectionOf(url, database) {
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port || 5432),
    user: decodeURIComponent(url.username),
    password: url.password === '' ? undefined : decodeURIComponent(url.password),
    database: database ?? decodeURIComponent(url.pathname.slice(1)),
    ssl: tlsOf(url),
  }
}

/** As libpq has it: `require` encrypts, `verify-full` also checks the certificate (authorities from `sslrootcert`). */
function tlsOf(url) {
  const mode = url.searchParams.get('sslmode') ?? 'prefer'
  const root = url.searchParams.get('sslrootcert')
  const ca = root === null ? {} : { ca: readFileSync(root, 'utf8') }
  if (mode === 'verify-full') return { ...ca }
  if (mode === 'verify-ca') return { ...ca, checkServerIdentity: () => undefined }
  if (mode === 'require') return { ...ca, rejectUnauthorized: root !== null, checkServerIdentity: () => undefined }
  return undefined
}

async function withMaintenanceDatabase(text, statement) {
  const { url } = parseUrl(text)
  const client = new pg.Client(connectionOf(url, 'postgres'))
  await client.connect()
  try {
    await client.query(statement(client.escapeIdentifier(decodeURIComponent(url.pathname.slice(1)))))
  } finally {
    await client.end()
  }
}

async function runDatabaseCommand(name) {
  try {
    if (name === 'can-connect-to-database') {
      const client = new pg.Client(connectionOf(parseUrl(datasource.url).url))
      await client.connect()
      await client.end()
    } else if (name === 'create-database') await withMaintenanceDatabase(datasource.url, (database) => `CREATE DATABASE ${database}`)
    else if (name === 'drop-database') await withMaintenanceDatabase(datasource.url, (database) => `DROP DATABASE ${database}`)
    else throw new Error(`unsupported command ${name}`)
    log('INFO', 'ok')
    return 0
  } catch (error) {
    const code = { '3D000': 'P1003', '28P01': 'P1000', ECONNREFUSED: 'P1001', ENOTFOUND: 'P1001' }[error.code] ?? 'P1010'
    log('ERROR', error.message || String(error), { is_panic: false, error_code: code })
    return 1
  }
}

// ---------------------------------------------------------------- the engine

async function loadEngine() {
  globalThis.PRISMA_WASM_PANIC_REGISTRY = { set_message: (message) => log('ERROR', message, { is_panic: true }) }
  const require = createRequire(import.meta.url)
  const file = path.join(path.dirname(require.resolve('@prisma/schema-engine-wasm/schema_engine_bg')), 'schema_engine_bg.wasm')
  const { instance } = await WebAssembly.instantiate(readFileSync(file), { './schema_engine_bg.js': bindings })
  bindings.__wbg_set_wasm(instance.exports)
  instance.exports.__wbindgen_start()
}

/** Catalogue types: "char" (one byte) and character(n). */
const PG_CHAR = 18
const PG_BPCHAR = 1042

/**
 * (1) The adapter refuses the catalogue type "char" (oid 18), with which the engine reads the catalogues; the engine
 * expects Character.
 */
function acceptCharColumns(queryable) {
  const performIO = queryable.performIO.bind(queryable)
  queryable.performIO = async (query) => {
    const result = await performIO(query)
    query.charColumns = (result.fields ?? []).map((field) => field.dataTypeID === PG_CHAR)
    for (const field of result.fields ?? []) if (field.dataTypeID === PG_CHAR) field.dataTypeID = PG_BPCHAR
    return result
  }
  const queryRaw = queryable.queryRaw.bind(queryable)
  queryable.queryRaw = async (query) => {
    const own = { ...query }
    const result = await queryRaw(own)
    own.charColumns?.forEach((isChar, column) => {
      if (isChar) result.columnTypes[column] = ColumnTypeEnum.Character
    })
    return result
  }
  if (queryable.startTransaction) {
    const start = queryable.startTransaction.bind(queryable)
    queryable.startTransaction = async (...args) => acceptCharColumns(await start(...args))
  }
  return queryable
}

async function connectAdapter(connection, schema, afterwards) {
  const pool = new pg.Pool({ max: 4, options: `-c search_path=${pg.escapeIdentifier(schema)}`, ...connection })
  // The native engine also creates a missing schema.
  const { rowCount } = await pool.query('SELECT 1 FROM pg_namespace WHERE nspname = $1', [schema])
  if (rowCount === 0) await pool.query(`CREATE SCHEMA IF NOT EXISTS ${pg.escapeIdentifier(schema)}`)
  const adapter = acceptCharColumns(await new PrismaPg(pool, { schema, disposeExternalPool: true }).connect())
  // (2) The adapter splits scripts at every ';', which breaks the $$ bodies of functions and triggers: send them whole.
  adapter.executeScript = async (script) => {
    try {
      await pool.query(script)
    } catch (error) {
      adapter.onError(error)
    }
  }
  const dispose = adapter.dispose.bind(adapter)
  adapter.dispose = async () => {
    await dispose()
    await afterwards?.()
  }
  return adapter
}

function adapterFactory() {
  const { url, schema } = parseUrl(datasource.url ?? 'postgresql://localhost/postgres')
  return bindMigrationAwareSqlAdapterFactory({
    provider: 'postgres',
    adapterName: '@prisma/adapter-pg',
    connect: () => connectAdapter(connectionOf(url), schema),
    // (3) The adapter's own shadow connection keeps the connection string and so would reach the main database.
    connectToShadowDb: async () => {
      if (datasource.shadowDatabaseUrl) return connectAdapter(connectionOf(parseUrl(datasource.shadowDatabaseUrl).url), schema)
      const database = `prisma_migrate_shadow_db_${randomUUID()}`
      await withMaintenanceDatabase(datasource.url, () => `CREATE DATABASE "${database}"`)
      return connectAdapter(connectionOf(url, database), schema, () =>
        withMaintenanceDatabase(datasource.url, () => `DROP DATABASE IF EXISTS "${database}" WITH (FORCE)`),
      )
    },
  })
}

/** (4) One engine per call: an instance loses its shadow-database factory after the first use. */
function newEngine(factory) {
  const models = datamodels.length === 0 ? undefined : datamodels.map((file) => [file, readFileSync(file, 'utf8')])
  return bindings.SchemaEngine.new({ datamodels: models }, (line) => DEBUG && process.stderr.write(`${line}\n`), factory)
}

/**
 * (5) Both fail on a migration history that is not empty ("shadow DB must be provided"); the difference between the
 * migrations and the data model is the same script.
 */
async function planMigration(method, params) {
  const engine = await newEngine(adapterFactory())
  const { stdout } = await engine.diff({
    from: { tag: 'migrations', ...params.migrationsList },
    to: { tag: 'schemaDatamodel', ...params.schema },
    script: true,
    exitCode: null,
    filters: params.filters,
  })
  const empty = !stdout || /^\s*-- This is an empty migration/.test(stdout)
  if (method === 'createMigration') {
    const stamp = new Date().toISOString().replace(/\D/g, '').slice(0, 14)
    const name = params.migrationName.replace(/[^\w-]+/g, '_').toLowerCase() || 'migration'
    return {
      connectorType: 'postgresql',
      generatedMigrationName: `${stamp}_${name}`,
      migrationScript: empty && !params.draft ? null : stdout,
      extension: 'sql',
    }
  }
  const lossy = (stdout ?? '').split('\n').filter((line) => /\bDROP (TABLE|COLUMN|TYPE)\b|SET DATA TYPE/.test(line))
  return {
    migrationSteps: empty ? 0 : 1,
    unexecutableSteps: [],
    warnings: lossy.map((line) => ({ message: `possible data loss: ${line.trim()}`, stepIndex: 0 })),
  }
}

async function call(method, params) {
  if (method === 'evaluateDataLoss' || method === 'createMigration') return planMigration(method, params)
  if (method === 'createDatabase') {
    await withMaintenanceDatabase(datasource.url, (database) => `CREATE DATABASE ${database}`)
    return { databaseName: decodeURIComponent(parseUrl(datasource.url).url.pathname.slice(1)) }
  }
  const factory = adapterFactory()
  const engine = await newEngine(factory)
  if (method === 'getDatabaseVersion') return engine.version(params)
  if (typeof engine[method] !== 'function') throw new Error(`method not supported by the WebAssembly engine: ${method}`)
  try {
    return await engine[method](params)
  } catch (error) {
    // An error of the adapter comes back from WebAssembly as a number; the error itself waits in the registry.
    const id = /^External error id#(\d+)/.exec(error?.message ?? '')?.[1]
    throw (id === undefined ? undefined : factory.errorRegistry.consumeError(Number(id))?.error) ?? error
  }
}

// ---------------------------------------------------------------- JSON-RPC

function send(message) {
  process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
}

async function serve() {
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() === '') continue
    const request = JSON.parse(line)
    if (request.method === undefined) continue // the CLI's answer to our `print`
    try {
      const result = await call(request.method, request.params)
      if (request.method === 'diff' && result?.stdout != null) send({ id: -1, method: 'print', params: { content: result.stdout } })
      send({ id: request.id, result: result ?? {} })
    } catch (error) {
      if (DEBUG) process.stderr.write(`${error?.stack ?? error}\n`)
      send({
        id: request.id,
        error: { code: 4466, message: 'An error happened. Check the data field for details.', data: describe(error) },
      })
    }
  }
  process.exit(0) // pools may still hold idle connections
}

/** The engine throws its known errors as JSON text. */
function describe(error) {
  const message = error?.message ?? String(error)
  if (/^\s*\{/.test(message)) {
    const known = JSON.parse(message)
    return { is_panic: false, message: known.message ?? message, error_code: known.error_code, meta: known.meta }
  }
  return { is_panic: false, message, error_code: error?.code }
}

if (command === 'version') {
  process.stdout.write('schema-engine-cli wasm\n')
} else if (command !== undefined) {
  log('INFO', 'Starting schema engine CLI (wasm)')
  process.exitCode = await runDatabaseCommand(command)
} else {
  log('INFO', 'Starting schema engine CLI (wasm)')
  await loadEngine()
  await serve()
}
