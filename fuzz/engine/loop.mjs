/** The coverage-guided loop: an input that shows something new is kept and changed further. */
import { mutate, Random } from './mutate.mjs'

/** Slower than this, three times in a row, is a finding: every input here is small. */
export const MAX_RUN_MS = 250
/** More than this for one small input is a finding. */
export const MAX_RUN_BYTES = 64 * 1024 * 1024

export class Finding extends Error {
  constructor(what, input) {
    super(what)
    this.input = input
  }
}

export class Loop {
  corpus = []
  executions = 0
  #target
  #feedback
  #random
  #dictionary = []
  #numbers = []
  #announce

  /**
   * @param target name, most, structured, run
   * @param announce called with each input before it runs: what a watchdog has when a run does not end
   */
  constructor(target, feedback, seed, announce = () => {}) {
    this.#target = target
    this.#feedback = feedback
    this.#random = new Random(seed)
    this.#announce = announce
  }

  get features() {
    return this.corpus.reduce((sum, { fresh }) => sum + fresh, 0)
  }

  /** Runs one input and keeps it when it shows something new. @throws Finding */
  offer(input) {
    const features = this.#run(input)
    const fresh = this.#feedback.learn(features)
    // The first one is kept whatever it shows: there must be something to change.
    if (fresh === 0 && this.corpus.length > 0) return false
    this.corpus.push({ input, features, fresh })
    this.#checkMemory(input)
    return true
  }

  /** One changed input. @throws Finding */
  step() {
    if (this.executions % 1024 === 0) this.#learnWords()
    const { corpus } = this
    // Newer entries are nearer to what is not known yet.
    const at =
      this.#random.below(4) === 0 ? this.#random.below(corpus.length) : corpus.length - 1 - this.#random.below(Math.min(corpus.length, 24))
    const changed = mutate(corpus[at].input, {
      random: this.#random,
      others: corpus.map(({ input }) => input),
      dictionary: this.#dictionary,
      numbers: this.#numbers,
      most: this.#target.most,
      structured: this.#target.structured,
    })
    return this.offer(changed)
  }

  /** Few small inputs that together visit every block that the corpus visits. */
  minimised(most) {
    // How often a block was visited, and how close a comparison came, is for finding inputs, not for keeping them.
    const blocksOf = ({ features }) =>
      new Set(features.filter((feature) => feature < this.#feedback.visitFeatures).map((feature) => feature >> 3))
    const left = this.corpus
      .map((entry) => ({ input: entry.input, blocks: blocksOf(entry) }))
      .sort((a, b) => a.input.length - b.input.length)
    const kept = []
    while (kept.length < most) {
      let best = left[0]
      for (const one of left) if (one.blocks.size > best.blocks.size) best = one
      if (best === undefined || best.blocks.size === 0) break
      kept.push(best.input)
      const covered = [...best.blocks]
      for (const { blocks } of left) for (const block of covered) blocks.delete(block)
    }
    return kept
  }

  #run(input) {
    this.executions++
    this.#announce(input)
    const feedback = this.#feedback
    let took = 0
    for (let attempt = 0; attempt < 3; attempt++) {
      feedback.begin()
      const started = performance.now()
      try {
        this.#target.run(input)
      } catch (error) {
        throw new Finding(error?.stack ?? String(error), input)
      }
      took = performance.now() - started
      if (took < MAX_RUN_MS) return feedback.features()
    }
    throw new Finding(`slow: ${took.toFixed(0)} ms for ${input.length} bytes`, input)
  }

  #checkMemory(input) {
    const before = process.memoryUsage()
    this.#target.run(input)
    const after = process.memoryUsage()
    const more = after.heapUsed - before.heapUsed + (after.arrayBuffers - before.arrayBuffers)
    if (more > MAX_RUN_BYTES) throw new Finding(`${more} bytes allocated for ${input.length} bytes`, input)
  }

  #learnWords() {
    const words = [...this.#feedback.dictionary]
    this.#dictionary = words.filter((word) => typeof word === 'string').map((word) => new TextEncoder().encode(word))
    this.#numbers = words.filter((word) => typeof word === 'number')
  }
}
