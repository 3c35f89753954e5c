/**
 * Versions of session-svc that are wrong on purpose. Each is the real service with one thing changed between it and its
 * database; a replica process runs it when its settings name it, and a proof must catch it.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Context } from '../../apps/session-svc/src/context.js'

export type Mutant =
  | 'read-modify-write'
  | 'release-before-commit'
  | 'prekey-deleted-before-commit'
  | 'prekey-deleted-after-commit'
  | 'prefetched-bundle-kept'
  | 'generation-not-checked'
  | 'generation-written-after-release'
  | 'generation-leaps-before-recovery-commits'

type Work = (tx: object) => Promise<unknown>
type Transaction = (work: Work, options?: object) => Promise<unknown>
type RawQuery = (strings: TemplateStringsArray, ...values: unknown[]) => Promise<unknown>

/** Changes a replica before it does anything. */
export function breakOnPurpose(mutant: Mutant, { db, generation }: Pick<Context, 'db' | 'generation'>): void {
  const real = db.$transaction.bind(db) as unknown as Transaction
  const put = (transaction: Transaction) => Object.defineProperty(db, '$transaction', { value: transaction })
  switch (mutant) {
    case 'read-modify-write':
      // No row lock, and no look at the version: the last writer wins.
      put((work, options) =>
        real((tx) => work(rewritingSql(tx, { ' FOR UPDATE': '', ' AND version = ': ' AND version > -1 - ' })), options),
      )
      break
    case 'release-before-commit':
      // The answer leaves as soon as the work is done; the commit takes its time.
      put(
        (work, options) =>
          new Promise((resolve, reject) => {
            real(async (tx) => {
              resolve(await work(tx))
              await delay(50)
            }, options).catch(reject)
          }),
      )
      break
    case 'prekey-deleted-before-commit':
      put((work, options) => real((tx) => work(deletingPrekeys(tx, (remove) => remove(db))), options))
      break
    case 'prekey-deleted-after-commit':
      put(async (work, options) => {
        const later: ((on: object) => Promise<unknown>)[] = []
        const result = await real((tx) => work(deletingPrekeys(tx, async (remove) => later.push(remove))), options)
        void delay(50).then(() => Promise.all(later.map((remove) => remove(db))))
        return result
      })
      break
    case 'prefetched-bundle-kept':
      put((work, options) => real((tx) => work(rewritingSql(tx, KEEPING_BUNDLES)), options))
      break
    case 'generation-not-checked':
      // No number of the database is below this one.
      Object.defineProperty(generation, 'value', { get: () => 0 })
      break
    case 'generation-leaps-before-recovery-commits':
      put((work, options) => real((tx) => work(leapingEarly(tx)), options))
      break
    case 'generation-written-after-release': {
      const passed = generation.passed.bind(generation)
      Object.defineProperty(generation, 'passed', { value: (value: number) => void delay(1_000).then(() => passed(value)) })
      break
    }
  }
}

const KEEPING_BUNDLES = {
  'DELETE FROM session.prefetched_bundle': 'SELECT bundle, fetched_at AS "fetchedAt" FROM session.prefetched_bundle',
  ' RETURNING bundle, fetched_at AS "fetchedAt"': '',
}

function rewritingSql(tx: object, changes: Readonly<Record<string, string>>): object {
  return new Proxy(tx, {
    get(target, property, receiver) {
      const original = Reflect.get(target, property, receiver) as unknown
      if (property !== '$queryRaw' && property !== '$executeRaw') return original
      return (strings: TemplateStringsArray, ...values: unknown[]) => {
        const cut = strings.map((text) => Object.entries(changes).reduce((sql, [from, to]) => sql.replaceAll(from, to), text))
        return (original as RawQuery).call(target, Object.assign(cut, { raw: cut }), ...values)
      }
    },
  })
}

/** A sequence does not go back with the transaction: after a recovery that was cut off nobody finds anything any more. */
function leapingEarly(tx: object): object {
  return new Proxy(tx, {
    get(target, property, receiver) {
      const original = Reflect.get(target, property, receiver) as unknown
      if (property !== '$executeRaw') return original
      return async (strings: TemplateStringsArray, ...values: unknown[]) => {
        if (strings.join('').includes('lost = true') && strings.join('').includes('WHERE NOT lost'))
          await (original as RawQuery).call(target, Object.assign([LEAP], { raw: [LEAP] }))
        return (original as RawQuery).call(target, strings, ...values)
      }
    },
  })
}

const LEAP = `SELECT setval('session.generation_seq', nextval('session.generation_seq') + 10000000)`

/** `instead` gets what would delete prekeys, to be run on the transaction or on the database. */
function deletingPrekeys(tx: object, instead: (remove: (on: object) => Promise<unknown>) => Promise<unknown>): object {
  return new Proxy(tx, {
    get(target, property, receiver) {
      const original = Reflect.get(target, property, receiver) as object
      if (property === 'prekey') {
        return new Proxy(original, {
          get(model, name) {
            if (name !== 'deleteMany' && name !== 'delete') return Reflect.get(model, name) as unknown
            return (args: unknown) =>
              instead((on) => (on as Record<'prekey', Record<string, (args: unknown) => Promise<unknown>>>).prekey[name]!(args))
          },
        })
      }
      if (property !== '$executeRaw' && property !== '$queryRaw') return original
      return (strings: TemplateStringsArray, ...values: unknown[]) => {
        if (!strings.join('').includes('DELETE FROM session.prekey'))
          return (original as unknown as RawQuery).call(target, strings, ...values)
        return instead((on) => (on as Record<string, RawQuery>)[property]!(strings, ...values))
      }
    },
  })
}
