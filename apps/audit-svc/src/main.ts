import { runService } from '@tallystick/service-host/host'
import { auditEnv, startAudit } from './app.js'

await runService({ name: 'audit-svc', env: auditEnv, start: startAudit })
