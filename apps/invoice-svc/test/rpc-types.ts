import type { Contract } from '@tallystick/contracts/call'
import type { z } from 'zod'

export type RequestInput<C extends Contract> = z.input<C['request']>
