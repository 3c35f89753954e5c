/** The `tallystick` command: verbs, options and exit codes. The work is in `commands/`. */
import { Command, CommanderError } from 'commander'
import { Api, findTarget, type TargetOptions } from './api.js'
import { auditVerify, type AuditVerifyOptions } from './commands/audit.js'
import { doctor } from './commands/doctor.js'
import { evidenceFetch, evidenceVerify } from './commands/evidence.js'
import { invoiceImport, invoiceSend, invoiceShow, invoiceWatch, type WatchOptions } from './commands/invoice.js'
import { inboxList, inboxVerdict } from './commands/inbox.js'
import { keysBackup, keysPolicy, keysRenewIdentity, keysResync, keysRotate, keysRotateKek, keysStatus } from './commands/keys.js'
import { peerAdd, peerConsent, peerInvite, peerList, peerVerify } from './commands/peer.js'
import { keysRestore, type RestoreOptions } from './commands/restore.js'
import { CommandError, EXIT, type ExitCode, type Io, Printer } from './outcome.js'

interface CommonOptions extends TargetOptions {
  readonly json?: boolean
  readonly quiet?: boolean
}

/**
 * @param args without node and script
 * @returns 0 ok, 2 usage, 3 validation, 4 unreachable, 5 integrity
 */
export async function run(args: readonly string[], io: Io): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.ok
  let print = new Printer(io, args.includes('--json'), args.includes('--quiet'))

  /** Gives every verb the common options, its printer and, unless it works offline, the API. */
  const verb = (parent: Command, usage: string, description: string, offline = false) => {
    const command = parent.command(usage).description(description)
    command.option('--json', 'print one JSON object').option('--quiet', 'print problems only')
    if (!offline)
      command
        .option('--fleet <dir>', 'folder with fleet.json')
        .option('--url <url>', 'API of the fleet')
        .option('--token-file <file>', 'file that holds the bearer token')
    return command
  }
  const begin = (command: Command): void => {
    const { json = false, quiet = false } = command.opts<CommonOptions>()
    print = new Printer(io, json, quiet)
  }
  const online = async (command: Command, work: (api: Api) => Promise<ExitCode>): Promise<void> => {
    begin(command)
    exitCode = await work(new Api(findTarget(command.opts<CommonOptions>(), io)))
  }

  const program = new Command('tallystick')
    .description('Invoices between organisations, with evidence that can be checked offline.')
    .helpCommand(true)
  const group = (name: string, description: string) => program.command(name).description(description)

  verb(program, 'doctor', 'check that the fleet is well').action((_options, command: Command) =>
    online(command, (api) => doctor(api, print)),
  )

  const evidence = group('evidence', 'evidence files')
  verb(evidence, 'fetch <documentId> <file>', 'write the evidence of a document, sent or received, to a file').action(
    (id: string, file: string, _options, command: Command) => online(command, (api) => evidenceFetch(api, id, file, print)),
  )
  verb(evidence, 'verify <file>', 'check an evidence file offline', true).action(async (file: string, _options, command: Command) => {
    begin(command)
    exitCode = await evidenceVerify(file, print)
  })

  const audit = group('audit', 'the audit log')
  verb(audit, 'verify', 'recompute the log and compare it with its signed checkpoint')
    .option('--vkey <key>', 'verifier key to trust instead of the certificate’s')
    .option('--state <file>', 'keeps the checkpoint seen last; a later run proves that history only grew')
    .action((options: AuditVerifyOptions, command: Command) => online(command, (api) => auditVerify(api, options, print)))

  const peer = group('peer', 'other fleets')
  verb(peer, 'invite', 'print this fleet’s invitation, for the other side’s `peer add`').action((_options, command: Command) =>
    online(command, (api) => peerInvite(api, print)),
  )
  verb(peer, 'consent <fleetId>', 'allow sharing invoices, credit notes and verdicts with a peer, and logging that')
    .option('--purpose <purpose...>', 'share, log or both', ['share', 'log'])
    .action((id: string, options: { purpose: string[] }, command: Command) =>
      online(command, (api) => peerConsent(api, id, options.purpose, print)),
    )
  verb(peer, 'add <invitation>', 'pin a peer by its invitation: the line, a file, or - for standard input').action(
    (invitation: string, _options, command: Command) => online(command, (api) => peerAdd(api, invitation, print)),
  )
  verb(
    peer,
    'verify <fleetId>',
    'its fingerprint was compared with its people. Of a peer with new identity keys it shows old and new fingerprint, and approves the new one when that is given',
  )
    .option('--fingerprint <digits>', 'as they read it to you; compared with the pinned one, or with the new one that waits')
    .action((id: string, options: { fingerprint?: string }, command: Command) =>
      online(command, (api) => peerVerify(api, id, options.fingerprint, print)),
    )
  verb(peer, 'list', 'pinned peers, with the state of the keys with each').action((_options, command: Command) =>
    online(command, (api) => peerList(api, print)),
  )

  const keys = group('keys', 'sessions with peers, identity keys, custody')
  verb(keys, 'status [fleetId]', 'how keys are kept and the key state of every peer; with a peer: its session in full').action(
    (id: string | undefined, _options, command: Command) => online(command, (api) => keysStatus(api, id, print)),
  )
  verb(keys, 'rotate <fleetId>', 'begin a new epoch with this peer: fresh keys from its next message on; nothing is lost').action(
    (id: string, _options, command: Command) => online(command, (api) => keysRotate(api, id, print)),
  )
  verb(
    keys,
    'resync <fleetId>',
    'begin a session that continues nothing, and accept one from the peer for an hour: for when the two sides no longer understand each other',
  ).action((id: string, _options, command: Command) => online(command, (api) => keysResync(api, id, print)))
  verb(keys, 'policy <fleetId>', 'how often sessions with this peer are renewed')
    .requiredOption('--rotate-every <documents>', '1 to 100 documents per epoch (1: a fresh session for each), or default')
    .action((id: string, options: { rotateEvery: string }, command: Command) =>
      online(command, (api) => keysPolicy(api, id, options.rotateEvery, print)),
    )
  verb(
    keys,
    'renew-identity',
    'suspected compromise: new identity keys, every session wiped, every peer stops until its people have compared the new fingerprint. Without --confirm it only says so',
  )
    .option('--confirm <fleetId>', 'the id of this fleet, typed')
    .action((options: { confirm?: string }, command: Command) => online(command, (api) => keysRenewIdentity(api, options.confirm, print)))
  verb(keys, 'backup <file>', 'write the identity keys to a new file, encrypted with age; sessions are never in it')
    .requiredOption('--recipient <age1...>', 'who can open it; may be given up to 8 times', (value: string, all: string[] = []) => [
      ...all,
      value,
    ])
    .action((file: string, options: { recipient: string[] }, command: Command) =>
      online(command, (api) => keysBackup(api, file, options.recipient, print)),
    )
  verb(
    keys,
    'restore <file>',
    'lay a backup where session-svc finds it when it starts with an empty database. Offline; overwrites nothing',
    true,
  )
    .requiredOption('--identity <file>', 'file with the age identity that opens the backup')
    .requiredOption('--secrets <dir>', 'secrets directory of session-svc')
    .action(async (file: string, options: RestoreOptions, command: Command) => {
      begin(command)
      exitCode = await keysRestore(file, options, print)
    })
  verb(keys, 'rotate-kek', 'wrap the data keys under the next key-encryption key, which has to be in place').action(
    (_options, command: Command) => online(command, (api) => keysRotateKek(api, print)),
  )

  const invoice = group('invoice', 'documents and their way to the peer')
  verb(invoice, 'import <file>', 'UBL 2.1 or JSON, - for standard input')
    .option('--issue', 'number, validate and freeze it too')
    .option('--series <name>', 'number series for --issue')
    .action((file: string, options: { issue?: boolean; series?: string }, command: Command) =>
      online(command, (api) => invoiceImport(api, file, options, print)),
    )
  verb(invoice, 'send <documentId> <fleetId>', 'share an issued document')
    .option('--watch', 'and follow it')
    .option('--until <stage>', 'with --watch: stop at this stage')
    .option('--timeout <seconds>', 'with --watch: give up, exit code 4')
    .action((id: string, peerId: string, options: { watch?: boolean } & WatchOptions, command: Command) =>
      online(command, (api) => invoiceSend(api, id, peerId, options, print)),
    )
  verb(invoice, 'show <documentId>', 'one document')
    .option('--format <format>', 'summary, xml or html', 'summary')
    .action((id: string, options: { format: string }, command: Command) =>
      online(command, (api) => invoiceShow(api, id, options.format, print)),
    )
  verb(invoice, 'watch <shareId>', 'print each stage of a share as it is reached')
    .option('--until <stage>', 'stop at this stage; default: at the verdict')
    .option('--timeout <seconds>', 'give up, exit code 4')
    .action((id: string, options: WatchOptions, command: Command) => online(command, (api) => invoiceWatch(api, id, options, print)))

  const inbox = group('inbox', 'what peers have sent')
  verb(inbox, 'list', 'received documents, newest first')
    .option('--state <state>', 'received, accepted, rejected, disputed or paid')
    .action((options: { state?: string }, command: Command) => online(command, (api) => inboxList(api, options.state, print)))
  verb(inbox, 'verdict <inboxId> <verdict>', 'accepted, rejected, disputed or paid: signed and sent back')
    .option('--code <code>', 'reason of a rejection or dispute')
    .option('--note <text>', 'for the sender’s people')
    .action((id: string, verdict: string, options: { code?: string; note?: string }, command: Command) =>
      online(command, (api) => inboxVerdict(api, id, verdict, options, print)),
    )

  throwInsteadOfExit(program, io)
  try {
    await program.parseAsync([...args], { from: 'user' })
    return exitCode
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    if (!(error instanceof CommandError)) throw error
    print.problem(error.message)
    print.result({ ok: false, exitCode: error.exitCode, message: error.message, ...error.body })
    return error.exitCode
  }
}

function throwInsteadOfExit(command: Command, io: Io): void {
  command.exitOverride().configureOutput({ writeOut: (text) => io.out.write(text), writeErr: (text) => io.err.write(text) })
  for (const child of command.commands) throwInsteadOfExit(child, io)
}
