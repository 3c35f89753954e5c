// Documents are kept honest by a tool: every relative link leads to a file; a link whose text is `code` leads to a file
// that holds that code; every claim and every requirement that "works" names a test that exists.
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import path from 'node:path'

const SKIP = new Set(['node_modules', 'dist', 'gen', '.git', '.nx', '.cache', '.fleet', '.demo'])
function* markdown(dir) {
  for (const name of readdirSync(dir)) {
    if (SKIP.has(name)) continue
    const full = path.join(dir, name)
    if (statSync(full).isDirectory()) yield* markdown(full)
    else if (name.endsWith('.md')) yield full
  }
}
const slug = (heading) =>
  heading
    .toLowerCase()
    .replace(/[`*]/g, '')
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replace(/\s/g, '-')

/** @returns {string[]} one line per problem */
export function checkDocuments(root) {
  const problems = []
  const texts = new Map()
  const read = (file) => texts.get(file) ?? texts.set(file, readFileSync(file, 'utf8')).get(file)
  for (const file of markdown(root)) {
    const where = path.relative(root, file)
    const text = read(file).replace(/```[\s\S]*?```/g, '')
    for (const [, label, target] of text.matchAll(/\[([^\]]*)\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/i.test(target)) continue
      const [to, anchor] = target.split('#')
      const full = to === '' ? file : path.resolve(path.dirname(file), to)
      if (!existsSync(full)) problems.push(`${where}: dead link ${target}`)
      else if (anchor && full.endsWith('.md')) {
        const anchors = [...read(full).matchAll(/^#+\s+(.*)$/gm)].map((m) => slug(m[1]))
        if (!anchors.includes(anchor)) problems.push(`${where}: ${to} has no heading #${anchor}`)
      } else if (statSync(full).isFile()) {
        const code = /^`([^`]+)`$/.exec(label)?.[1]
        // `name()` or `Class.method` in the text: the last identifier must occur in the file
        const name = code?.replace(/\(.*$/, '').split(/[.\s]/).pop()
        if (code && !code.includes('/') && !path.basename(full).startsWith(name) && !read(full).includes(name))
          problems.push(`${where}: ${to} does not hold \`${name}\``)
        const quoted = /^"(.+)"$/.exec(label)?.[1]
        if (quoted && !read(full).includes(quoted)) problems.push(`${where}: no test named "${quoted}" in ${to}`)
      }
    }
  }
  problems.push(...checkTests(root, 'docs/claims.md', () => true))
  problems.push(...checkRequirements(root))
  return problems
}

const rows = (root, file) =>
  readFileSync(path.join(root, file), 'utf8')
    .split('\n')
    .filter((line) => /^\|\s*[^|\s-]/.test(line) && !/^\|\s*(#|Claim)\s*\|/.test(line))

function checkTests(root, file, wanted) {
  if (!existsSync(path.join(root, file))) return [`${file} is missing`]
  return rows(root, file)
    .filter((row) => wanted(row))
    .filter((row) => !/\["[^\]]+"\]\([^)]+\.(spec\.ts|mjs|go|py|rs|java)\)/.test(row))
    .map((row) => `${file}: no test linked in: ${row.slice(0, 100)}`)
}

const STATES = ['works', 'by equivalence', 'not applicable', 'open']
function checkRequirements(root) {
  const file = 'docs/requirements.md'
  if (!existsSync(path.join(root, file))) return [`${file} is missing`]
  const problems = []
  const seen = new Map()
  for (const row of rows(root, file)) {
    const [, number, , state] = row.split('|').map((cell) => cell.trim())
    if (!/^\d+$/.test(number)) continue
    if (seen.has(number)) problems.push(`${file}: ${number} stands twice`)
    seen.set(number, state)
    if (!STATES.includes(state)) problems.push(`${file}: ${number} has the unknown state "${state}"`)
  }
  for (let n = 1; n <= 394; n++) if (!seen.has(String(n))) problems.push(`${file}: ${n} is missing`)
  problems.push(...checkTests(root, file, (row) => /^\|\s*\d+\s*\|[^|]*\|\s*(works|by equivalence)\s*\|/.test(row)))
  return problems
}
