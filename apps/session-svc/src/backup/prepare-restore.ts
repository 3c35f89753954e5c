/** The secret files `restore.age` and `restore.identity`, if they are there: imported before the identity is looked for. */
import { existsSync } from 'node:fs'
import path from 'node:path'
import type { Context } from '../context.js'
import type { SecretFiles } from '../custody/configure-custody.js'
import { restoreBackup } from './restore-backup.js'

/** @returns what has to run before the identity keys are loaded; may be run again after it failed */
export function prepareRestore(context: Context, secrets: SecretFiles): () => Promise<void> {
  return async () => {
    if (!existsSync(path.join(secrets.directory, 'restore.age'))) return
    const outcome = await restoreBackup(context, { backup: secrets.read('restore.age'), identity: secrets.read('restore.identity') })
    const what =
      outcome === 'restored'
        ? 'the identity keys were restored from the backup: remove the secrets "restore.age" and "restore.identity"'
        : 'this identity has been restored before: the secrets "restore.age" and "restore.identity" can be removed'
    context.log.warn({ what: 'restore' }, what)
  }
}
