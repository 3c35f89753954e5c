/** JSON pointers (RFC 6901). */

export function pointerOf(path: ReadonlyArray<string | number>): string {
  return path.map((token) => `/${String(token).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
}
