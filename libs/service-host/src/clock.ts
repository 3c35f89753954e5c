/** Wall clock as a value that is passed around, with a seam for tests that need another time. */
import { readFileSync } from 'node:fs'

export interface Clock {
  /** Milliseconds since 1970-01-01T00:00:00Z. */
  now(): number
}

export const systemClock: Clock = { now: () => Date.now() }

/** Whether the seam is in effect: never in production, so that nobody can date a signature by writing a file. */
export function clockIsShifted(env: ClockEnv): boolean {
  return env.TALLYSTICK_CLOCK_FILE !== undefined && env.NODE_ENV !== 'production'
}

export interface ClockEnv {
  readonly NODE_ENV?: string | undefined
  /** Holds a signed number of milliseconds, added to the wall clock and read at each use. */
  readonly TALLYSTICK_CLOCK_FILE?: string | undefined
}

/** A missing or empty file is no shift; anything but an integer is an error at each use. */
export function clockFromEnv(env: ClockEnv): Clock {
  const file = env.TALLYSTICK_CLOCK_FILE
  if (file === undefined || !clockIsShifted(env)) return systemClock
  return { now: () => Date.now() + readShift(file) }
}

function readShift(file: string): number {
  let text: string
  try {
    text = readFileSync(file, 'utf8').trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw error
  }
  if (text === '') return 0
  if (!/^[+-]?[0-9]{1,15}$/.test(text)) throw new Error('TALLYSTICK_CLOCK_FILE does not hold a whole number of milliseconds')
  return Number(text)
}
