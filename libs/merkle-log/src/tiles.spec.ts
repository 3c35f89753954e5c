import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeEntries, encodeEntries, encodeTile, formatTilePath, hashesFromTiles, parseTilePath, tileOf, tileWidth } from './tiles.js'

const code = (name: string) => expect.objectContaining({ code: name })

describe('tlog-tiles', () => {
  it.each([
    ['tile/0/000', { level: 0, index: 0, width: 256 }],
    ['tile/0/x001/x234/067', { level: 0, index: 1_234_067, width: 256 }],
    ['tile/1/x001/000.p/7', { level: 1, index: 1_000, width: 7 }],
    ['tile/entries/x001/x234/067.p/255', { level: 'entries', index: 1_234_067, width: 255 }],
    ['tile/63/999', { level: 63, index: 999, width: 256 }],
  ] as const)('path %s', (path, tile) => {
    expect(parseTilePath(path)).toEqual(tile)
    expect(formatTilePath(tile)).toBe(path)
  })

  it('paths come back', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.constant('entries' as const), fc.integer({ min: 0, max: 63 })),
        fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
        fc.integer({ min: 1, max: 256 }),
        (level, index, width) => {
          expect(parseTilePath(formatTilePath({ level, index, width }))).toEqual({ level, index, width })
        },
      ),
    )
  })

  it.each([
    '',
    'tile',
    'tile/0',
    'tile/0/0',
    'tile/0/00',
    'tile/0/1000',
    'tile/0/x000/001',
    'tile/0/001/002',
    'tile/00/000',
    'tile/64/000',
    'tile/-1/000',
    'tile/0/000.p/0',
    'tile/0/000.p/256',
    'tile/0/000.p/01',
    'tile/0/000.p/',
    'tile/data/000',
    '/tile/0/000',
    'tile/0/000/',
    'tile/0/../000',
    'tile/0/x999/x999/x999/x999/x999/999',
    'tile/entries/abc',
    'tile/0/000\n',
  ])('must fail: path %j', (path) => {
    expect(() => parseTilePath(path)).toThrow(code('Serialization'))
  })

  it('width follows the size of the tree', () => {
    expect([
      tileWidth(0, 0, 0),
      tileWidth(0, 0, 1),
      tileWidth(0, 0, 256),
      tileWidth(0, 0, 1_000),
      tileWidth(0, 3, 1_000),
      tileWidth(0, 4, 1_000),
    ]).toEqual([0, 1, 256, 256, 232, 0])
    expect([tileWidth(1, 0, 255), tileWidth(1, 0, 256), tileWidth(1, 0, 70_000), tileWidth(1, 1, 70_000), tileWidth(2, 0, 70_000)]).toEqual(
      [0, 1, 256, 17, 1],
    )
  })

  it('nodes lie in the tile that covers them', () => {
    expect(tileOf({ level: 0, index: 300 })).toEqual({ level: 0, index: 1 })
    expect(tileOf({ level: 7, index: 3 })).toEqual({ level: 0, index: 1 })
    expect(tileOf({ level: 8, index: 3 })).toEqual({ level: 1, index: 0 })
    expect(tileOf({ level: 15, index: 2 })).toEqual({ level: 1, index: 1 })
  })

  it('entries round trip; hashes side by side', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }), (leaves) => {
        expect(decodeEntries(encodeEntries(leaves))).toEqual(leaves)
      }),
    )
    expect(encodeTile([new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)])).toHaveLength(64)
  })

  it('must fail: entries cut off or too long; missing tile', () => {
    const tile = encodeEntries([new Uint8Array(5), new Uint8Array(7)])
    for (const cut of [1, 2, 6, 8, tile.length - 1]) {
      if (cut === 7) continue
      expect(() => decodeEntries(tile.slice(0, cut)), String(cut)).toThrow(code('Serialization'))
    }
    expect(() => encodeEntries([new Uint8Array(65_536)])).toThrow(code('Serialization'))
    expect(() => hashesFromTiles([{ begin: 0, end: 2 }], new Map())).toThrow(code('Serialization'))
    expect(() => hashesFromTiles([{ begin: 0, end: 2 }], new Map([['0/0', [new Uint8Array(32)]]]))).toThrow(code('Serialization'))
  })
})
