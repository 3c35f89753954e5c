/** Cuts a list into calls of the bus: at most so many items, and so many bytes in all. */

export function batchesOf<T>(
  items: readonly T[],
  bytes: (item: T) => number,
  limits: { pumpBatch: number; pumpBatchBytes: number },
): T[][] {
  const batches: T[][] = []
  let current: T[] = []
  let total = 0
  for (const item of items) {
    const size = bytes(item)
    if (current.length > 0 && (current.length >= limits.pumpBatch || total + size > limits.pumpBatchBytes)) {
      batches.push(current)
      current = []
      total = 0
    }
    current.push(item)
    total += size
  }
  if (current.length > 0) batches.push(current)
  return batches
}
