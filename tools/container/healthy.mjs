/** Health check of a service's container: is it ready? Exit code 0 or 1; the answer, which names the checks that fail, goes to the engine's record. */
const url = `http://127.0.0.1:${process.env.TALLYSTICK_OPS_PORT ?? 9464}/health/ready`
try {
  const response = await fetch(url, { signal: AbortSignal.timeout(3_000) })
  process.stdout.write(await response.text())
  process.exitCode = response.ok ? 0 : 1
} catch (error) {
  process.stdout.write(`no answer: ${error.cause?.code ?? error.message}\n`)
  process.exitCode = 1
}
