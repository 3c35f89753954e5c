/** Instrumented like the product's code. */
export function planted(input) {
  if (input.length < 8) return
  if (input[0] === 0x91) {
    if (input[3] === 0xa7) {
      if (input[5] === 0x3c) throw new Error('the planted bug')
    }
  }
}
