// What all charts share: the last five minutes' times, the values at them, and when
// the process was restarted.

const SPAN = 300; // seconds
const LEAST = 60;

export class Trail {
  times = [];
  restarts = [];
  #values = new Map();

  values(name) {
    return this.#values.get(name) ?? this.times.map(() => null);
  }

  /** range is what the charts show: a minute at first, and then more and more. */
  range() {
    const last = this.times.at(-1) ?? 0;
    return [last - Math.min(SPAN, Math.max(LEAST, last - this.times[0] || 0)), last];
  }

  /** add takes a point. A value that is not known is null, and breaks its line. */
  add(time, point) {
    for (const name of Object.keys(point)) {
      if (!this.#values.has(name)) this.#values.set(name, this.times.map(() => null));
    }
    this.times.push(time);
    for (const [name, values] of this.#values) values.push(point[name] ?? null);
    while (this.times[0] < time - SPAN - 10) {
      this.times.shift();
      for (const values of this.#values.values()) values.shift();
    }
    this.restarts = this.restarts.filter((restart) => restart > time - SPAN);
  }
}
