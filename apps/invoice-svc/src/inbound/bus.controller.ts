/** What relay-svc may ask of this service. */
import { Controller, Inject } from '@nestjs/common'
import type { RequestOf, ResponseOf } from '@tallystick/contracts/call'
import { invoiceDeliver, invoiceRelayProgress } from '@tallystick/contracts/invoice'
import { Handles } from '@tallystick/nats-rpc/handles'
import { APP, type App } from '../app.js'
import { recordProgress } from '../messages/relay-progress.js'
import { deliver } from './deliver.js'

@Controller()
export class BusController {
  constructor(@Inject(APP) private readonly app: App) {}

  @Handles(invoiceDeliver)
  async deliver(request: RequestOf<typeof invoiceDeliver>): Promise<ResponseOf<typeof invoiceDeliver>> {
    return { items: await deliver(this.app, request.items) }
  }

  @Handles(invoiceRelayProgress)
  async relayProgress(request: RequestOf<typeof invoiceRelayProgress>): Promise<ResponseOf<typeof invoiceRelayProgress>> {
    await recordProgress(this.app, request.items)
    return { ok: true }
  }
}
