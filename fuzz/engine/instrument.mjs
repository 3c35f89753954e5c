/**
 * Coverage feedback: the product's built modules are instrumented while they are loaded. Each basic block counts its
 * visits, and each comparison reports how close its operands came (what others call a value profile), so that a magic
 * value is found byte by byte.
 */
import { registerHooks } from 'node:module'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

export const COUNTERS = 1 << 15
const PROXIMITY = 1 << 18
const OPERATORS = new Map([
  [ts.SyntaxKind.EqualsEqualsEqualsToken, 0],
  [ts.SyntaxKind.ExclamationEqualsEqualsToken, 1],
  [ts.SyntaxKind.LessThanToken, 2],
  [ts.SyntaxKind.LessThanEqualsToken, 3],
  [ts.SyntaxKind.GreaterThanToken, 4],
  [ts.SyntaxKind.GreaterThanEqualsToken, 5],
])

/** What the instrumented code writes to. One run of a target at a time. */
export class Feedback {
  counters = new Uint8Array(COUNTERS)
  /** Places and closenesses of comparisons in this run; a place may come more than once. */
  near = []
  #seenNear = new Uint8Array(PROXIMITY)
  #seenVisits = new Uint8Array(COUNTERS * 8)
  /** Text and numbers that the code compares its input with. */
  dictionary = new Set()
  /** Features below this number are visits of blocks. */
  visitFeatures = COUNTERS * 8
  blocks = 0
  comparisons = 0

  begin() {
    this.counters.fill(0)
    this.near.length = 0
  }

  /** @returns features of this run: numbers that name a block and how often it was visited, or a comparison and its closeness */
  features() {
    const found = []
    for (let i = 0; i < this.blocks; i++) {
      const visits = this.counters[i]
      if (visits !== 0) found.push(i * 8 + bucket(visits))
    }
    for (const place of this.near) found.push(COUNTERS * 8 + place)
    return found
  }

  /** @returns how many of the features have not been there before, and remembers them */
  learn(features) {
    let fresh = 0
    for (const feature of features) {
      const [seen, at] = feature < COUNTERS * 8 ? [this.#seenVisits, feature] : [this.#seenNear, feature - COUNTERS * 8]
      if (seen[at] === 0) {
        seen[at] = 1
        fresh++
      }
    }
    return fresh
  }

  compare(id, left, right, operator) {
    const kind = typeof left
    if (kind === typeof right) {
      let closeness = -1
      if (kind === 'number') closeness = 32 - bits((left ^ right) >>> 0) + (left < right ? 33 : 0)
      else if (kind === 'string') closeness = commonPrefix(left, right) + (left.length === right.length ? 33 : 0)
      else if (kind === 'bigint') closeness = left === right ? 2 : left < right ? 1 : 0
      if (closeness >= 0) {
        const place = (id * 67 + closeness) % PROXIMITY
        if (this.near.length < 4096 && this.#seenNear[place] === 0) this.near.push(place)
      }
    }
    switch (operator) {
      case 0:
        return left === right
      case 1:
        return left !== right
      case 2:
        return left < right
      case 3:
        return left <= right
      case 4:
        return left > right
      default:
        return left >= right
    }
  }
}

function bucket(visits) {
  return visits < 4 ? visits - 1 : visits < 8 ? 3 : visits < 16 ? 4 : visits < 32 ? 5 : visits < 128 ? 6 : 7
}
function bits(n) {
  n -= (n >>> 1) & 0x55555555
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333)
  return (((n + (n >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24
}
function commonPrefix(a, b) {
  const most = Math.min(a.length, b.length, 32)
  let i = 0
  while (i < most && a.charCodeAt(i) === b.charCodeAt(i)) i++
  return i
}

/** Instruments what `wanted` says, from now on. @param {(file: string) => boolean} wanted @returns {Feedback} */
export function instrumentModules(wanted) {
  const feedback = new Feedback()
  globalThis.__fuzz = feedback
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context)
      if (!url.startsWith('file:') || loaded.format !== 'module') return loaded
      const file = fileURLToPath(url)
      return wanted(file) ? { ...loaded, source: instrument(String(loaded.source), file, feedback) } : loaded
    },
  })
  return feedback
}

/** @returns {string} the module with counters and reported comparisons */
export function instrument(source, file, feedback) {
  const parsed = ts.createSourceFile(file, source, ts.ScriptTarget.ESNext, true, ts.ScriptKind.JS)
  const { transformed } = ts.transform(parsed, [(context) => (node) => ts.visitNode(node, visitor(context, feedback))])
  const text = ts.createPrinter({ removeComments: true }).printFile(transformed[0])
  if (feedback.blocks >= COUNTERS) throw new Error('more blocks than counters')
  return `const __c = globalThis.__fuzz.counters, __k = globalThis.__fuzz;\n${text}`
}

function visitor(context, feedback) {
  const { factory } = context
  const count = () =>
    factory.createPostfixUnaryExpression(
      factory.createElementAccessExpression(factory.createIdentifier('__c'), feedback.blocks++),
      ts.SyntaxKind.PlusPlusToken,
    )
  const counted = (expression) =>
    factory.createParenthesizedExpression(factory.createComma(count(), factory.createParenthesizedExpression(expression)))
  const block = (statement) =>
    ts.isBlock(statement)
      ? factory.updateBlock(statement, [factory.createExpressionStatement(count()), ...statement.statements])
      : factory.createBlock([factory.createExpressionStatement(count()), statement])

  const visit = (node) => {
    if (ts.isStringLiteral(node) && node.text.length > 0 && node.text.length <= 40 && !ts.isImportDeclaration(node.parent ?? node))
      feedback.dictionary.add(node.text)
    if (ts.isNumericLiteral(node) && Number.isSafeInteger(Number(node.text))) feedback.dictionary.add(Number(node.text))
    // A loop's own condition is reported by the number of its rounds.
    if (ts.isForStatement(node)) {
      const { initializer, condition, incrementor } = node
      return factory.updateForStatement(node, initializer, condition, incrementor, block(ts.visitNode(node.statement, visit)))
    }
    const seen = ts.visitEachChild(node, visit, context)
    if (ts.isIfStatement(seen))
      return factory.updateIfStatement(seen, seen.expression, block(seen.thenStatement), seen.elseStatement && block(seen.elseStatement))
    if (ts.isForOfStatement(seen))
      return factory.updateForOfStatement(seen, seen.awaitModifier, seen.initializer, seen.expression, block(seen.statement))
    if (ts.isWhileStatement(seen)) return factory.updateWhileStatement(seen, seen.expression, block(seen.statement))
    if (ts.isConditionalExpression(seen))
      return factory.updateConditionalExpression(
        seen,
        seen.condition,
        seen.questionToken,
        counted(seen.whenTrue),
        seen.colonToken,
        counted(seen.whenFalse),
      )
    if (ts.isCaseClause(seen))
      return factory.updateCaseClause(seen, seen.expression, [factory.createExpressionStatement(count()), ...seen.statements])
    if (ts.isDefaultClause(seen)) return factory.updateDefaultClause(seen, [factory.createExpressionStatement(count()), ...seen.statements])
    if (ts.isCatchClause(seen)) return factory.updateCatchClause(seen, seen.variableDeclaration, block(seen.block))
    if (ts.isArrowFunction(seen) && !ts.isBlock(seen.body))
      return factory.updateArrowFunction(
        seen,
        seen.modifiers,
        seen.typeParameters,
        seen.parameters,
        seen.type,
        seen.equalsGreaterThanToken,
        counted(seen.body),
      )
    if (ts.isBlock(seen) && node.parent !== undefined && isFunction(node.parent)) return block(seen)
    if (ts.isBinaryExpression(seen)) return binary(seen)
    return seen
  }
  const binary = (node) => {
    const operator = OPERATORS.get(node.operatorToken.kind)
    if (operator !== undefined) {
      const id = factory.createNumericLiteral(feedback.comparisons++)
      const compare = factory.createPropertyAccessExpression(factory.createIdentifier('__k'), 'compare')
      return factory.createCallExpression(compare, undefined, [id, node.left, node.right, factory.createNumericLiteral(operator)])
    }
    const { kind } = node.operatorToken
    if (
      kind === ts.SyntaxKind.AmpersandAmpersandToken ||
      kind === ts.SyntaxKind.BarBarToken ||
      kind === ts.SyntaxKind.QuestionQuestionToken
    )
      return factory.updateBinaryExpression(node, node.left, node.operatorToken, counted(node.right))
    return node
  }
  return visit
}

const isFunction = (node) =>
  ts.isFunctionDeclaration(node) ||
  ts.isFunctionExpression(node) ||
  ts.isArrowFunction(node) ||
  ts.isMethodDeclaration(node) ||
  ts.isConstructorDeclaration(node) ||
  ts.isGetAccessor(node) ||
  ts.isSetAccessor(node)
