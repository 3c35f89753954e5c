/** One look into the memory of a real service, after it has used, replaced and destroyed keys that the test knows. */
import { readFileSync } from 'node:fs'
import { expect } from 'vitest'
import { canDump, type Finding, FORMS, KeyScanner, type ScanResult } from './memory-scan.ts'
import { KnownKeys } from './known-keys.ts'
import { ServiceProcess } from './service-process.ts'

/** Prisma's WebAssembly reserves 10 GB of addresses otherwise, which gdb writes into a dump as zeros. */
const SMALL_ADDRESS_SPACE = ['--disable-wasm-trap-handler', '--wasm-max-mem-pages=2048']

export interface MemoryRun {
  /** Keys to look for, at least. */
  readonly keys: number
  /** Messages each way before the look. */
  readonly roundTrips: number
}

/**
 * Rotates every three messages, and destroys superseded epochs at once; then looks for every key that was seen and is
 * not in the database any more. Prints what was found.
 */
export async function searchTheMemoryOfAService({ keys, roundTrips }: MemoryRun): Promise<void> {
  const service = await ServiceProcess.start(
    {
      TALLYSTICK_SESSION_ROTATE_AFTER_MESSAGES: '3',
      TALLYSTICK_SESSION_OLD_EPOCH_GRACE_MS: '1',
      TALLYSTICK_SESSION_OLD_EPOCHS_KEPT: '1',
      TALLYSTICK_SESSION_UPKEEP_MS: '200',
    },
    SMALL_ADDRESS_SPACE,
  )
  const known = await KnownKeys.open(service.database.urls.session, service.kek)
  try {
    await known.look()
    for (let i = 0; i < roundTrips; i++) {
      await service.roundTrip(`message ${i}`)
      await known.look()
    }
    // The last epoch but one goes too: upkeep wipes it without another message.
    await expect.poll(() => known.states(), { timeout: 20_000, interval: 100 }).toBe(1)
    const present = await known.look()
    const gone = [...known.seen].filter(([hex]) => !present.has(hex))
    expect(gone.length).toBeGreaterThanOrEqual(keys)
    const names = [...gone.map(([, name]) => name), 'the key file']
    // The last one is in use, and there to be found: where it belongs, and nowhere else.
    const live = names.length
    const scanner = new KeyScanner([...gone.map(([hex]) => Buffer.from(hex, 'hex')), service.kek, await known.agreementKey()])
    const pid = service.child.pid

    const memory = scanner.process(pid)
    const leftInMemory = report('/proc/PID/mem', memory, names)
    const dump = canDump ? scanner.coreDump(pid) : undefined
    const leftInDump = dump ? report('core dump', dump, names) : []
    if (!dump) process.stdout.write('memory: no gcore on this machine: core dumps were not searched\n')
    const inUse = memory.findings.filter(({ key }) => key === live)
    const dumped = dump?.findings.filter(({ key }) => key === live) ?? []
    process.stdout.write(
      `memory: control: the identity key in use found ${inUse.length} time in memory, in the arena; ${dump ? dumped.length : '?'} times in the core dump\n`,
    )
    expect([...leftInMemory, ...leftInDump]).toEqual([])
    expect(inUse.map(({ form }) => form)).toEqual(['raw'])
    expect(isArena(pid, inUse[0]!)).toBe(true)
    expect(dumped).toEqual([])
    expect(service.child.running).toBe(true)
  } finally {
    await known.close()
    await service.stop()
  }
}

function isArena(pid: number, { where }: Finding): boolean {
  const entries = readFileSync(`/proc/${pid}/smaps`, 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
  const entry = entries.find((text) => text.startsWith(`${where.split(' ')[0]!} `))
  const flags =
    /^VmFlags:(.*)$/m
      .exec(entry ?? '')?.[1]
      ?.trim()
      .split(' ') ?? []
  return flags.includes('dd')
}

/** Prints what was found of the keys that are gone. */
function report(what: string, { findings, bytes }: ScanResult, names: readonly string[]): string[] {
  const left = findings.filter(({ key }) => key < names.length)
  const found = new Set(left.map(({ key }) => key)).size
  process.stdout.write(
    `memory: ${what}: ${found} found of ${names.length} keys × ${FORMS.length} forms, ${(bytes / 1e6).toFixed(0)} MB searched\n`,
  )
  const lines = left.map(({ key, form, where, at }) => `${names[key]} as ${form} at ${at.toString(16)} in ${where}`)
  for (const line of lines) process.stdout.write(`memory:   ${line}\n`)
  return lines
}
