// Shared by all charts: the last five minutes' times and values, and when the process
// restarted.

const SPAN = 300; // seconds
const LEAST = 60;

export class Trail {
  times = [];
  restarts = [];
  #values = new Map();

  values(name) {
    return this.#values.get(name) ?? this.times.map(() => null);
  }

  /** range is the time that the charts show: a minute at first, growing to five. */
  range() {
    const last = this.times.at(-1) ?? 0;
    return [last - Math.min(SPAN, Math.max(LEAST, last - this.times[0] || 0)), last];
  }

  /** add adds a point. An unknown value is null, and breaks its line. */
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
