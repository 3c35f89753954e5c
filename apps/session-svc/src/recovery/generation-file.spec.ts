import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { DatabasePutBack, GENERATION_JUMP, GenerationFile } from './generation-file.js'

const ID = '6f1f0a52-1f0b-4b8e-9d7f-0d9a4f4b7c11'
let directory: string
beforeEach(() => {
  directory = path.join(mkdtempSync(path.join(os.tmpdir(), 'tallystick-generation-')), 'state')
})
afterEach(() => rmSync(path.dirname(directory), { recursive: true, force: true }))

it('remembers the highest number, over restarts, in a file for its owner alone', () => {
  const file = GenerationFile.open(directory)
  expect([file.databaseId, file.value]).toEqual([undefined, 0])
  file.passed(7)
  expect(file.value).toBe(0)
  file.adopt(ID, 3)
  for (const value of [9, 8, 10, 4]) file.passed(value)
  file.close()
  expect(GenerationFile.open(directory)).toMatchObject({ databaseId: ID, value: 10 })
  expect(statSync(path.join(directory, 'generation')).mode & 0o777).toBe(0o600)
  expect(statSync(directory).mode & 0o777).toBe(0o700)
})

it('leaps when the database is found put back, at once and on the disk, and stays suspended until the end of the recovery', () => {
  const file = GenerationFile.open(directory)
  file.adopt(ID, 5)
  for (let i = 0; i < 2; i++) expect(() => file.putBack('test')).toThrow(DatabasePutBack)
  file.passed(5 + 2 * GENERATION_JUMP)
  expect(file).toMatchObject({ suspended: true, value: 5 + GENERATION_JUMP })
  expect(GenerationFile.open(directory).value).toBe(5 + GENERATION_JUMP)
  file.adopt(ID, 9_000_000)
  expect(file).toMatchObject({ suspended: false, value: 9_000_000 })
})

it.each(['', 'x', `tallystick-generation/v1 ${ID} 17\n`, `tallystick-generation/v1 ${ID} 0000000000000017\nmore`])(
  'what does not read as one line counts as missing: %j',
  (content) => {
    GenerationFile.open(directory)
    writeFileSync(path.join(directory, 'generation'), content)
    expect(GenerationFile.open(directory).databaseId).toBeUndefined()
    const file = GenerationFile.open(directory)
    file.adopt(ID, 1)
    expect(readFileSync(path.join(directory, 'generation'), 'latin1')).toBe(`tallystick-generation/v1 ${ID} 0000000000000001\n`)
    expect(GenerationFile.open(directory)).toMatchObject({ databaseId: ID, value: 1 })
  },
)
