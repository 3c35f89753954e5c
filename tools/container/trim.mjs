/**
 * Removes from an installed tree what no service of this platform can load: sources of what is compiled, maps and
 * types, native code for other systems, Prisma's query compilers for other databases. Runs in the image's build only.
 */
import { readdirSync, rmSync } from 'node:fs'
import path from 'node:path'

const ROOT = path.resolve(import.meta.dirname, '..', '..')
if (process.env.CI !== 'true') throw new Error('this removes source code: it is for the build of the image')

const remove = (file) => rmSync(path.join(ROOT, file), { recursive: true, force: true })
const each = (folder) => readdirSync(path.join(ROOT, folder), { withFileTypes: true })
const under = (folder, wanted) => {
  for (const entry of readdirSync(path.join(ROOT, folder), { recursive: true, withFileTypes: true })) {
    if (entry.isFile() && wanted(entry.name)) rmSync(path.join(entry.parentPath, entry.name))
  }
}

for (const group of ['apps', 'libs']) {
  for (const { name } of each(group)) {
    for (const part of ['src', 'tsconfig.json', 'tsconfig.tsbuildinfo']) remove(path.join(group, name, part))
  }
  under(group, (name) => /\.(d\.ts|map)$/.test(name))
}
under('node_modules', (name) => /\.(map|d\.[cm]?ts)$/.test(name))

const platform = `${process.platform}-${process.arch}`
for (const { name } of each('node_modules/sodium-native/prebuilds')) {
  if (name !== platform) remove(path.join('node_modules/sodium-native/prebuilds', name))
}
const runtime = 'node_modules/@prisma/client/runtime'
under(runtime, (name) => /^query_compiler_/.test(name) && !/^query_compiler_fast_bg\.postgresql\.(mjs|wasm-base64\.mjs)$/.test(name))
