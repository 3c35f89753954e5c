/** `@Handles(contract)`: a method of a Nest controller answers one contract. */
import 'reflect-metadata'
import { Ctx, MessagePattern, Payload } from '@nestjs/microservices'
import type { Contract, RequestOf } from '@tallystick/contracts/call'
import type { z } from 'zod'
import type { CallContext } from './context.js'

export type Handler<C extends Contract> = (request: RequestOf<C>, context: CallContext) => Promise<z.input<C['response']>>

/** A throw of a handler, carried to the transport as a value: Nest's own exception layer would log its raw text. */
export class HandlerThrew {
  constructor(readonly error: unknown) {}
}

/**
 * The request has passed the contract's schema when the method runs, and its result must pass the response schema.
 * Business refusals are returned. A throw becomes a fault: with the error's own `code` if that is one of ERROR_CODES,
 * else Internal; none of its text crosses the bus.
 */
export function Handles<C extends Contract>(contract: C) {
  return <T extends Handler<C>>(target: object, key: string, descriptor: TypedPropertyDescriptor<T>): void => {
    const method = descriptor.value
    if (method === undefined) throw new TypeError(`@Handles(${contract.subject}) belongs on a method`)
    const wrapped = async function (this: unknown, request: RequestOf<C>, context: CallContext): Promise<unknown> {
      try {
        return await method.call(this, request, context)
      } catch (error) {
        return new HandlerThrew(error)
      }
    }
    descriptor.value = wrapped as unknown as T
    MessagePattern(contract.subject, { contract })(target, key, descriptor as PropertyDescriptor)
    Payload()(target, key, 0)
    Ctx()(target, key, 1)
  }
}
