import { expect, it } from 'vitest'
import {
  childTraceparent,
  correlationIdOr,
  currentContext,
  inheritedDeadline,
  NO_DEADLINE,
  runInContext,
  runRequest,
  traceIdOf,
} from './context.js'

const PARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

it('makes a child span in the same trace, and a new trace from anything malformed', () => {
  const child = childTraceparent(PARENT)
  expect(child).toMatch(/^00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-01$/)
  expect(child).not.toBe(PARENT)
  for (const bad of [undefined, '', 'x', PARENT.toUpperCase(), `${PARENT}\r\nx: y`, `00-${'0'.repeat(32)}-b7ad6b7169203331-01`]) {
    expect(childTraceparent(bad)).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
    expect(traceIdOf(childTraceparent(bad))).not.toBe(traceIdOf(PARENT))
  }
})

it('takes over a correlation id only in a harmless alphabet', () => {
  expect(correlationIdOr('order-17')).toBe('order-17')
  for (const bad of [undefined, '', 'a b', 'a\r\nb', 'x'.repeat(65), '{"a":1}']) expect(correlationIdOr(bad)).toMatch(/^[0-9a-f-]{36}$/)
})

it('is there for everything that the callback starts, and nowhere else', async () => {
  expect(currentContext()).toBeUndefined()
  await runInContext({ traceparent: PARENT, correlationId: 'c-1' }, async () => {
    await Promise.resolve()
    expect(currentContext()).toMatchObject({ correlationId: 'c-1', deadline: NO_DEADLINE })
    expect(traceIdOf(currentContext()!.traceparent)).toBe('0af7651916cd43dd8448eb211c80319c')
  })
  expect(currentContext()).toBeUndefined()
})

it('hands a deadline down while the request runs, and not to work that outlives it', async () => {
  const context = { correlationId: 'c', traceparent: PARENT, deadline: 1_000 }
  const finished = Promise.withResolvers<void>()
  let background: Promise<number> | undefined
  await runRequest(context, async () => {
    expect(inheritedDeadline()).toBe(1_000)
    background = finished.promise.then(() => inheritedDeadline())
  })
  finished.resolve()
  expect(await background).toBe(NO_DEADLINE)
})
