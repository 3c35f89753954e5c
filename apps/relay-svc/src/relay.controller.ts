import { Controller, Inject } from '@nestjs/common'
import type { RequestOf, ResponseOf } from '@tallystick/contracts/call'
import { relayFetchBundle, relayIdentity, relayPeer, relaySend, relaySetPeer } from '@tallystick/contracts/relay'
import { Handles } from '@tallystick/nats-rpc/handles'
import { Relay } from './relay.js'

@Controller()
export class RelayController {
  constructor(@Inject(Relay) private readonly relay: Relay) {}

  @Handles(relayIdentity)
  async identity(): Promise<ResponseOf<typeof relayIdentity>> {
    return this.relay.identity()
  }

  @Handles(relaySetPeer)
  async setPeer(request: RequestOf<typeof relaySetPeer>): Promise<ResponseOf<typeof relaySetPeer>> {
    return this.relay.setPeer(request)
  }

  @Handles(relayPeer)
  async peer(request: RequestOf<typeof relayPeer>): Promise<ResponseOf<typeof relayPeer>> {
    return this.relay.peer(request.fleetId)
  }

  @Handles(relayFetchBundle)
  async fetchBundle(request: RequestOf<typeof relayFetchBundle>): Promise<ResponseOf<typeof relayFetchBundle>> {
    return this.relay.fetchBundle(request.fleetId)
  }

  @Handles(relaySend)
  async send(request: RequestOf<typeof relaySend>): Promise<ResponseOf<typeof relaySend>> {
    return this.relay.send(request)
  }
}
