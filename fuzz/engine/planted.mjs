/** A bug behind nested comparisons of bytes and of a text: what the fuzzer must find to be worth its time. */
import { planted } from './planted-code.mjs'

export const TARGETS = [{ name: 'planted', most: 64, structured: false, seeds: () => [new Uint8Array(8)], run: planted }]
