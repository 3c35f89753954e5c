import { expect, it } from 'vitest'
import { startChild, type Child } from './child.ts'
import { KeepRunning } from './keep-running.ts'

it('stopped while the first start is under way, leaves nothing running', async () => {
  const release = Promise.withResolvers<void>()
  let child: Child | undefined
  const keeper = new KeepRunning({
    restart: true,
    onEvent: () => undefined,
    start: async () => {
      await release.promise
      return (child = await startChild({ command: 'sleep', args: ['600'] }))
    },
  })
  const started = keeper.start()
  const stopped = keeper.stop()
  release.resolve()
  await Promise.all([started, stopped])
  const { running } = child as Child
  child?.kill('SIGKILL')
  expect(running).toBe(false)
})
