/** Places inside the project's folder. */
import path from 'node:path'

export const ROOT = path.resolve(import.meta.dirname, '..')
/** What may be thrown away at any time and is slow to get again. */
export const CACHE = path.join(ROOT, '.cache')
export const NODE_MODULES = path.join(ROOT, 'node_modules')

/** The four services, in the order in which they are started. */
export const SERVICES = ['audit-svc', 'relay-svc', 'session-svc', 'invoice-svc'] as const
export type Service = (typeof SERVICES)[number]

/** Short names: PostgreSQL schemas, roles and the folders of prisma/. */
export const SHORTS = ['invoice', 'session', 'relay', 'audit'] as const
export type Short = (typeof SHORTS)[number]

export const shortOf = (service: Service): Short => service.replace('-svc', '') as Short
export const serviceOf = (short: Short): Service => `${short}-svc`

/** A fleet's name: part of role, database and file names. */
export const FLEET_NAME = /^[a-z][a-z0-9-]{0,30}$/
