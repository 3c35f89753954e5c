/** `tallystick evidence fetch` from a fleet, and `verify FILE`: offline, needs neither fleet nor network. */
import { writeFileSync } from 'node:fs'
import { verifyEvidenceText } from '@tallystick/merkle-log/evidence-verify'
import { type Api, readText } from '../api.js'
import { CommandError, EXIT, type ExitCode, type Printer } from '../outcome.js'

/** @param file where to write it; an existing file is not overwritten */
export async function evidenceFetch(api: Api, documentId: string, file: string, print: Printer): Promise<ExitCode> {
  const text = await api.text(`/v1/documents/${encodeURIComponent(documentId)}/evidence`, 'application/json')
  try {
    writeFileSync(file, text, { flag: 'wx' })
  } catch (error) {
    throw new CommandError(EXIT.usage, `${file} could not be written: ${(error as Error).message}`)
  }
  print.line(`${file}: check it with \`tallystick evidence verify\`, with or without a network`)
  print.result({ file })
  return EXIT.ok
}

export async function evidenceVerify(file: string, print: Printer): Promise<ExitCode> {
  const text = readText(file, 'evidence file')
  const result = verifyEvidenceText(text)
  for (const check of result.checks) print.line(`${check.ok ? 'ok    ' : 'FAILED'} ${check.name}  ${check.detail}`)
  for (const part of result.missing) print.line(`absent ${part}`)
  const { summary } = result
  if (summary !== undefined) {
    print.line('')
    print.line(`${summary.sender.displayName} (${summary.sender.fleetId})`)
    print.line(`  signed this ${summary.kind} for ${summary.recipient.displayName} (${summary.recipient.fleetId})`)
    print.line(`  on ${new Date(summary.issuedAt).toISOString()}`)
    if (summary.verdict !== undefined)
      print.line(`  which signed the verdict "${summary.verdict.verdict}" on ${new Date(summary.verdict.at).toISOString()}`)
    print.line('Compare the fleet ids with those you trust: this file cannot say who stands behind them.')
  }
  const failed = result.checks.filter((check) => !check.ok).map((check) => check.name)
  if (failed.length > 0) print.problem(`The evidence does not hold: ${failed.join(', ')}.`)
  print.result(result)
  return result.ok ? EXIT.ok : EXIT.integrity
}
