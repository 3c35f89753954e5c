// docs/limits.md against the code: a row whose default differs from the constant that it links, a constant of a limits
// file without a row, and an override that no service reads are problems. A row looks like this:
// | [`NAME`](../path/file.ts) | default | unit | `VARIABLE` or nothing | reason | ["test"](../path.spec.ts) or "no test" |
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import ts from 'typescript'

const DOCUMENT = 'docs/limits.md'
/** Objects whose properties are limits of their own; of other objects they are called OBJECT.property. */
const LIMIT_OBJECTS = new Set(['DEFAULT_LIMITS', 'AUDIT_LIMITS'])
const CALL = 'libs/contracts/src/call.ts'

/** Files of which every exported number must be documented. */
function completeFiles(root) {
  const limits = ['apps', 'libs'].flatMap((dir) => readdirSync(path.join(root, dir)).map((name) => `${dir}/${name}/src/limits.ts`))
  return [...limits.filter((file) => existsSync(path.join(root, file))), CALL]
}

/**
 * The numbers that a source file names at its top level, computed from the text: nothing needs to be built.
 * @returns {Map<string, { value: number | number[], exported: boolean }>}
 */
export function readConstants(root, file, seen = new Map()) {
  const known = seen.get(file)
  if (known) return known
  const found = new Map()
  seen.set(file, found)
  const source = ts.createSourceFile(file, readFileSync(path.join(root, file), 'utf8'), ts.ScriptTarget.Latest, true)
  for (const statement of source.statements) {
    if (ts.isImportDeclaration(statement)) importNames(root, file, statement, found, seen)
    if (!ts.isVariableStatement(statement)) continue
    const exported = statement.modifiers?.some((modifier) => modifier.kind === ts.SyntaxKind.ExportKeyword) ?? false
    for (const { name, initializer } of statement.declarationList.declarations) {
      if (!ts.isIdentifier(name) || !initializer) continue
      const node = bare(initializer)
      if (ts.isObjectLiteralExpression(node)) {
        for (const property of node.properties) {
          if (!ts.isPropertyAssignment(property) || !ts.isIdentifier(property.name)) continue
          const value = evaluate(property.initializer, found)
          const key = LIMIT_OBJECTS.has(name.text) ? property.name.text : `${name.text}.${property.name.text}`
          if (value !== undefined) found.set(key, { value, exported })
        }
      } else {
        const value = evaluate(node, found)
        if (value !== undefined) found.set(name.text, { value, exported })
      }
    }
  }
  return found
}

/** Numbers that an expression may use although another file names them. */
function importNames(root, file, statement, found, seen) {
  const from = statement.moduleSpecifier.text
  const inside = /^@tallystick\/([a-z-]+)\/([a-z0-9-]+)$/.exec(from)
  const target = inside
    ? `libs/${inside[1]}/src/${inside[2]}.ts`
    : from.startsWith('.')
      ? path.join(path.dirname(file), from.replace(/\.js$/, '.ts'))
      : undefined
  const names = statement.importClause?.namedBindings
  if (!target || !names || !ts.isNamedImports(names) || !existsSync(path.join(root, target))) return
  const there = readConstants(root, target, seen)
  for (const { name, propertyName } of names.elements) {
    const constant = there.get((propertyName ?? name).text)
    if (constant) found.set(name.text, { value: constant.value, exported: false })
  }
}

const bare = (node) =>
  ts.isAsExpression(node) || ts.isParenthesizedExpression(node) || ts.isSatisfiesExpression(node) ? bare(node.expression) : node

/** @returns a number, a list of numbers, or undefined for anything else */
function evaluate(expression, known) {
  const node = bare(expression)
  if (ts.isNumericLiteral(node)) return Number(node.text)
  if (ts.isIdentifier(node)) return known.get(node.text)?.value
  if (ts.isArrayLiteralExpression(node)) {
    const values = node.elements.map((element) => evaluate(element, known))
    return values.length > 0 && values.every((value) => typeof value === 'number') ? values : undefined
  }
  if (ts.isCallExpression(node) && /^Math\.(min|max)$/.test(node.expression.getText())) {
    const values = node.arguments.map((argument) => evaluate(argument, known))
    return values.every((value) => typeof value === 'number') ? Math[node.expression.name.text](...values) : undefined
  }
  if (!ts.isBinaryExpression(node)) return undefined
  const [a, b] = [evaluate(node.left, known), evaluate(node.right, known)]
  if (typeof a !== 'number' || typeof b !== 'number') return undefined
  switch (node.operatorToken.kind) {
    case ts.SyntaxKind.PlusToken:
      return a + b
    case ts.SyntaxKind.MinusToken:
      return a - b
    case ts.SyntaxKind.AsteriskToken:
      return a * b
    case ts.SyntaxKind.SlashToken:
      return a / b
    default:
      return undefined
  }
}

/** As a row spells a default: thousands apart, lists with semicolons. */
export function spell(value) {
  return [value]
    .flat()
    .map((number) => number.toLocaleString('en-US'))
    .join('; ')
}

/** `handshakesPerAddress` → TALLYSTICK_RELAY_HANDSHAKES_PER_ADDRESS, as apps/relay-svc/src/limits.ts makes them. */
const relayVariable = (name) => `TALLYSTICK_RELAY_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`

/** The variables that services read, by their source. */
function variables(root) {
  const files = [
    'libs/service-host/src/env.ts',
    ...readdirSync(path.join(root, 'apps')).flatMap((app) => ['limits', 'main', 'app'].map((name) => `apps/${app}/src/${name}.ts`)),
  ]
  const read = files
    .filter((file) => existsSync(path.join(root, file)))
    .flatMap((file) => readFileSync(path.join(root, file), 'utf8').match(/TALLYSTICK_[A-Z0-9_]+/g) ?? [])
  return new Set([...read, ...[...readConstants(root, 'apps/relay-svc/src/limits.ts').keys()].map(relayVariable)])
}

function rows(root) {
  return readFileSync(path.join(root, DOCUMENT), 'utf8')
    .split('\n')
    .map((line) => /^\|\s*\[`([^`]+)`\]\(([^)]+)\)\s*\|(.*)\|\s*$/.exec(line))
    .filter(Boolean)
    .map(([line, name, target, rest]) => ({
      line,
      name,
      file: path.normalize(path.join('docs', target)),
      cells: rest.split('|').map((cell) => cell.trim()),
    }))
}

/** @returns {string[]} one line per problem */
export function checkLimits(root) {
  if (!existsSync(path.join(root, DOCUMENT))) return [`${DOCUMENT} is missing`]
  const problems = []
  const documented = new Set()
  const known = variables(root)
  for (const { line, name, file, cells } of rows(root)) {
    const where = `${DOCUMENT}: ${name}`
    if (cells.length !== 5) {
      problems.push(`${where} has ${cells.length + 1} cells instead of 6`)
      continue
    }
    const [byDefault, , variable, , test] = cells
    if (documented.has(`${file} ${name}`)) problems.push(`${where} stands twice`)
    documented.add(`${file} ${name}`)
    const constant = existsSync(path.join(root, file)) ? readConstants(root, file).get(name) : undefined
    if (!constant) problems.push(`${where}: ${file} names no such number`)
    else if (byDefault.replace(/\s*\(.*$/, '') !== spell(constant.value))
      problems.push(`${where} is ${spell(constant.value)} in ${file}, not ${byDefault}`)
    for (const [, used] of variable.matchAll(/`([^`]+)`/g)) {
      if (!known.has(used)) problems.push(`${where}: no service reads ${used}`)
      else if (used.startsWith('TALLYSTICK_RELAY_') && used !== relayVariable(name))
        problems.push(`${where} is set by ${relayVariable(name)}, not ${used}`)
    }
    if (test !== 'no test' && !/\["[^"]+"\]\([^)]+\.spec\.ts\)/.test(test))
      problems.push(`${where}: neither a test nor "no test" in: ${line.slice(0, 80)}`)
  }
  for (const file of completeFiles(root)) {
    for (const [name, { exported }] of readConstants(root, file))
      if (exported && !documented.has(`${file} ${name}`)) problems.push(`${DOCUMENT}: ${name} of ${file} is missing`)
  }
  return problems
}
