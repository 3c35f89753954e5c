/**
 * No keys in what the product is made of: string literals of 32 or 64 bytes in hex or base64, PEM blocks, NATS seeds
 * and age secret keys, in the sources of apps, libs and tools. Tests and vectors need known keys and are left out.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'

const FORMS = [
  [/['"`]([0-9a-f]{64}|[0-9a-f]{128})['"`]/i, '32 or 64 bytes in hex'],
  [/['"`](?=[^'"`]*[0-9])(?=[^'"`]*[A-Z])(?=[^'"`]*[a-z])[A-Za-z0-9+/_-]{43}=?['"`]/, '32 bytes in base64'],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----/, 'a PEM private key'],
  [/\bS[UAONCP][A-Z2-7]{56}\b/, 'a NATS seed'],
  [/AGE-SECRET-KEY-1[0-9A-Z]{20,}/, 'an age secret key'],
]

export function secretsIn(text) {
  return FORMS.filter(([form]) => form.test(text)).map(([, name]) => name)
}

export function checkSecrets(root) {
  const problems = []
  const files = execFileSync('git', ['ls-files', '-z', 'apps', 'libs', 'tools', 'deploy', 'docker-compose.yml'], {
    cwd: root,
    encoding: 'utf8',
  })
  for (const file of files.split('\0').filter((name) => /\.(ts|mts|mjs|json|ya?ml|conf)$/.test(name))) {
    if (/\.spec\.ts$|\/test\/|\/testing\/|vectors|package-lock/.test(file)) continue
    let text
    try {
      text = readFileSync(path.join(root, file), 'utf8')
    } catch (error) {
      if (error.code === 'ENOENT') continue
      throw error
    }
    for (const name of secretsIn(text)) problems.push(`${file} holds ${name}`)
  }
  // The guard has to bite.
  const planted = [`'${'a1'.repeat(32)}'`, `"${'Zm9v'.repeat(10)}abc="`, ['-----BEGIN', 'PRIVATE KEY-----'].join(' ')]
  if (planted.some((text) => secretsIn(text).length === 0)) problems.push('the check for keys no longer bites')
  return problems
}
