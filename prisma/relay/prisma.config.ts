import { defineConfig } from 'prisma/config'

// TALLYSTICK_MIGRATE_URL is set by tools/prisma/migrate.ts; the default serves `prisma migrate dev` on a local server.
export default defineConfig({
  schema: 'schema.prisma',
  migrations: { path: 'migrations' },
  datasource: { url: process.env.TALLYSTICK_MIGRATE_URL ?? 'postgresql://postgres@127.0.0.1:5432/tallystick?schema=relay' },
})
