/** Free ports of this machine. */
import dgram from 'node:dgram'
import net from 'node:net'

/** Ports given out by this process: two callers at the same time must not get the same one. */
const given = new Set<number>()

function tcpFree(port: number, host: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = net.createServer()
    server.once('error', () => resolve(undefined))
    server.listen({ port, host, exclusive: true }, () => {
      const { port: got } = server.address() as net.AddressInfo
      server.close(() => resolve(got))
    })
  })
}

function udpFree(port: number, host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = dgram.createSocket('udp4')
    socket.once('error', () => resolve(false))
    socket.bind({ port, address: host, exclusive: true }, () => socket.close(() => resolve(true)))
  })
}

/** Whether `port` is free for TCP and UDP on `host`. */
export async function isPortFree(port: number, host = '127.0.0.1'): Promise<boolean> {
  return (await tcpFree(port, host)) !== undefined && (await udpFree(port, host))
}

/**
 * A port that is free for TCP and UDP (relay-svc listens on both with one number).
 * @param preferred taken when it is free: ports stay the same across restarts
 */
export async function freePort(preferred?: number, host = '127.0.0.1'): Promise<number> {
  if (preferred !== undefined && !given.has(preferred) && (await isPortFree(preferred, host))) {
    given.add(preferred)
    return preferred
  }
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = await tcpFree(0, host)
    if (port === undefined || given.has(port) || !(await udpFree(port, host))) continue
    given.add(port)
    return port
  }
  throw new Error(`no free port on ${host}`)
}

/** A stopped server's port may be given out again. */
export function returnPort(port: number): void {
  given.delete(port)
}
