/**
 * `npm run demo`: two complete fleets on this machine exchange an invoice. Everything goes through what a user has:
 * the launcher of `npm run fleet`, the HTTP API, the `tallystick` command.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { ROOT } from '../paths.ts'
import type { FleetInfo } from '../fleet/layout.ts'
import { Screen } from './screen.ts'
import type { TwoFleets } from './two-fleets.ts'
import {
  accept,
  ApiProblem,
  fetchEvidence,
  findInInbox,
  grantConsents,
  importInvoice,
  issueInvoice,
  pinEachOther,
  shareUntilDelivered,
  waitForAcceptance,
  type Side,
} from './steps.ts'
import { auditVerify, evidenceVerify } from './tallystick-command.ts'

const USAGE = `usage: npm run demo [-- --once] [--json] [--invoice FILE.xml] [--data DIR]

  --once      stop everything after the exchange; exit code 0, or 1 with the reason
  --json      one JSON object at the end on standard output, everything else on standard error
  --invoice   your own UBL 2.1 invoice or credit note instead of the sample
  --data      folder that keeps the fleets between runs; default .demo (remove it to begin again)`

const started = Date.now()
const seconds = () => Math.round((Date.now() - started) / 100) / 10

interface Options {
  once: boolean
  json: boolean
  invoice: string
  own: boolean
  data: string
}

interface Result {
  ok: true
  seconds: Record<'built' | 'started' | 'pinned' | 'delivered' | 'accepted' | 'total', number>
  reused: boolean
  document: { id: string; number: string; kind: string; currency: string; payableAmount: string; contentDigest: string }
  share: { id: string; state: string; times: Record<string, string> }
  audit: Record<string, { ok: true; output: string }>
  evidence: { file: string; ok: true; output: string }
  fleets: Record<string, FleetInfo>
}

function readOptions(): Options | undefined {
  try {
    const { values } = parseArgs({
      options: {
        once: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        invoice: { type: 'string' },
        data: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    if (values.help) return undefined
    // npm runs scripts in the project's folder; a relative path means the folder in which the user typed it.
    const here = process.env.INIT_CWD ?? process.cwd()
    return {
      once: values.once,
      json: values.json,
      invoice: values.invoice === undefined ? path.join(ROOT, 'samples', 'acme-invoice.xml') : path.resolve(here, values.invoice),
      own: values.invoice !== undefined,
      data: values.data === undefined ? path.join(ROOT, '.demo') : path.resolve(here, values.data),
    }
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    return undefined
  }
}

async function exchange(
  options: Options,
  fleets: TwoFleets,
  screen: Screen,
  signal: AbortSignal,
  marks: { built: number },
): Promise<Result> {
  const { acme, globex, reused } = fleets
  const seller: Side = { name: 'acme', fleet: acme, peerId: globex.info.fleetId }
  const buyer: Side = { name: 'globex', fleet: globex, peerId: acme.info.fleetId }
  const startedAt = seconds()

  screen.begin('the fleets pin each other by invitation')
  await pinEachOther(seller, buyer, signal)
  screen.done('fleets pinned', 'by exchanging invitation strings')
  const granted = (await grantConsents(seller)) + (await grantConsents(buyer))
  screen.done('consents', granted > 0 ? 'to share and to log, granted on both sides' : 'of an earlier run still stand')
  const pinned = seconds()

  screen.begin('acme imports the UBL invoice')
  const draft = await importInvoice(seller, readFileSync(options.invoice))
  screen.done('invoice imported', `${draft.kind} ${draft.number ?? ''} from ${path.relative(ROOT, options.invoice)}`)
  const { document, renumbered } = await issueInvoice(seller, draft)
  screen.done('invoice issued and frozen', `${document.number}, ${document.payableAmount} ${document.currency}`)
  if (renumbered) screen.note(`number ${draft.number} was issued by an earlier run: this one was given ${document.number}`)

  screen.begin('acme shares it with globex')
  const share = await shareUntilDelivered(seller, document, signal, (stage, at) => screen.done(STAGE_TEXT[stage] ?? stage, at))
  const delivered = seconds()
  screen.begin('globex reads its inbox')
  const item = await findInInbox(buyer, document.id, signal)
  screen.done(
    'in the inbox of globex',
    `${item.number}, ${item.payableAmount} ${item.currency}; ${item.verification?.length ?? 0} checks passed`,
  )

  screen.begin('globex accepts')
  await accept(buyer, item)
  const accepted = await waitForAcceptance(seller, share.shareId, signal)
  const acceptedAt = seconds()
  screen.done('accepted, with a signed verdict', accepted.times.accepted ?? '')

  screen.begin('verifying both audit logs')
  const [acmeAudit, globexAudit] = await Promise.all([
    auditVerify(path.join(options.data, 'acme'), signal),
    auditVerify(path.join(options.data, 'globex'), signal),
  ])
  screen.done('audit log of acme verified', verdictLine(acmeAudit))
  screen.done('audit log of globex verified', verdictLine(globexAudit))

  screen.begin('both logs prove the exchange to each other')
  const evidence = await fetchEvidence(seller, document.id, signal)
  const file = path.join(options.data, 'evidence', `${document.number.replace(/[^\w.-]+/g, '_')}.json`)
  mkdirSync(path.dirname(file), { recursive: true })
  writeFileSync(file, evidence)
  const checked = await evidenceVerify(file, signal)
  screen.done('evidence file checked offline', path.relative(process.env.INIT_CWD ?? process.cwd(), file))
  screen.idle()
  return {
    ok: true,
    seconds: { built: marks.built, started: startedAt, pinned, delivered, accepted: acceptedAt, total: seconds() },
    reused,
    document: {
      id: document.id,
      number: document.number,
      kind: document.kind,
      currency: document.currency,
      payableAmount: document.payableAmount,
      contentDigest: item.contentDigest,
    },
    share: { id: accepted.shareId, state: accepted.state, times: accepted.times },
    audit: { acme: { ok: true, output: acmeAudit }, globex: { ok: true, output: globexAudit } },
    evidence: { file, ok: true, output: checked },
    fleets: { acme: acme.info, globex: globex.info },
  }
}

const STAGE_TEXT: Record<string, string> = {
  queued: 'queued',
  sealed: 'sealed end to end',
  relayed: 'handed to the relay',
  stored: "stored by globex's relay",
  delivered: 'delivered: opened and verified',
}

/** The sentence that matters, of those which the command prints. */
const verdictLine = (text: string) => {
  const lines = text.trim().split('\n')
  return lines.find((line) => line.includes('recomputed')) ?? lines.at(-1) ?? ''
}

function build(screen: Screen): Promise<void> {
  screen.begin('building')
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [path.join(ROOT, 'tools', 'build.mjs'), '--quiet'], {
      cwd: ROOT,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let output = ''
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.once('error', reject)
    child.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`the build failed:\n${output}`))))
  })
}

function printDoors(fleets: TwoFleets, result: Result, screen: Screen): void {
  for (const { info } of [fleets.acme, fleets.globex]) {
    screen.title(`\n${info.name}   ${info.fleetId}`)
    screen.text(`  API       ${info.api.url}   (OpenAPI: ${info.api.url}/openapi.json)`)
    for (const [name, token] of Object.entries(info.api.tokens)) screen.text(`  token     ${name.padEnd(9)} ${token}`)
    for (const [service, url] of Object.entries(info.metrics)) screen.text(`  metrics   ${service.padEnd(12)} ${url}`)
    screen.text(`  logs      ${info.logs}`)
  }
  screen.text(`\nevidence  ${result.evidence.file}`)
  screen.text(`          check it again, without any fleet: npx tallystick evidence verify ${path.relative(ROOT, result.evidence.file)}`)
  screen.text(
    `try       curl -s -H "Authorization: Bearer ${fleets.globex.info.api.tokens.auditor}" ${fleets.globex.info.api.url}/v1/inbox`,
  )
}

async function main(): Promise<number> {
  const options = readOptions()
  if (options === undefined) {
    process.stderr.write(`${USAGE}\n`)
    return 2
  }
  const screen = new Screen(options.json ? process.stderr : process.stdout, started)
  const stop = new AbortController()
  let interrupts = 0
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      // The second time at once; what is left is ended by the guard.
      if (++interrupts > 1) process.exit(130)
      stop.abort(new Error('interrupted'))
    })
  }
  const print = (value: unknown) => options.json && process.stdout.write(`${JSON.stringify(value)}\n`)
  let fleets: TwoFleets | undefined
  let looksBroken = false
  try {
    if (!existsSync(options.invoice)) throw new Error(`there is no file ${options.invoice}`)
    screen.title('Tallystick: two fleets on this machine, acme (seller) and globex (buyer)')
    await build(screen)
    const marks = { built: seconds() }
    screen.done('built')
    looksBroken = true
    const { startTwoFleets } = await import('./two-fleets.ts') // stands on what has just been built
    fleets = await startTwoFleets(options.data, screen, stop.signal)
    const result = await exchange(options, fleets, screen, stop.signal, marks)
    screen.title(`\nAccepted after ${result.seconds.accepted} s, everything verified after ${result.seconds.total} s.`)
    if (!options.once) {
      printDoors(fleets, result, screen)
      screen.text(
        '\nBoth fleets stay up. Ctrl-C stops everything; the data stays in ' +
          `${path.relative(process.env.INIT_CWD ?? process.cwd(), options.data) || options.data}.`,
      )
      print(result)
      if (!stop.signal.aborted) await once(stop.signal, 'abort')
    }
    screen.begin('stopping')
    await fleets.stop()
    screen.idle()
    screen.text('stopped')
    if (options.once) print(result)
    return 0
  } catch (error) {
    const interrupted = stop.signal.aborted
    const reason = interrupted ? 'interrupted' : (error as Error).message
    screen.failed(reason)
    // A refused invoice is the invoice's fault: the fleets are sound.
    if (!interrupted && looksBroken && !(error instanceof ApiProblem && error.status < 500))
      screen.note(`logs: ${path.join(options.data, '{acme,globex}', 'logs')}; to begin again, remove ${options.data}`)
    await fleets?.stop()
    print({ ok: false, error: reason, seconds: { total: seconds() } })
    return interrupted ? 130 : 1
  }
}

const code = await main()
// Idle HTTP connections to the services would hold the process for a few seconds more.
process.exit(code)
