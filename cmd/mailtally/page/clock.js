// The clock of rates and charts. Setting the computer's clock does not move it back,
// and it includes time that the computer was asleep.

const ASLEEP = 5; // a jump of the wall clock, in seconds, that counts as sleep

/** Clock counts seconds; its inputs are in seconds too. */
export class Clock {
  #monotonic;
  #wall;
  #last;
  #slept = 0;

  constructor(monotonic = () => (performance.timeOrigin + performance.now()) / 1000, wall = () => Date.now() / 1000) {
    this.#monotonic = monotonic;
    this.#wall = wall;
    this.#last = { monotonic: monotonic(), wall: wall() };
  }

  // A monotonic clock may stop during sleep. Setting the wall clock forward looks the
  // same, and does no harm: rates start over.
  now() {
    const [monotonic, wall] = [this.#monotonic(), this.#wall()];
    const ahead = wall - this.#last.wall - (monotonic - this.#last.monotonic);
    if (ahead > ASLEEP) this.#slept += ahead;
    this.#last = { monotonic, wall };
    return monotonic + this.#slept;
  }
}
