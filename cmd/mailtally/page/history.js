// The last minute's snapshots: rates and quantiles are differences between them.

const KEPT = 65; // seconds; the longest window is a minute
const SLACK = 0.5; // seconds by which a window's first snapshot may be older than it
const GAP = 5; // seconds without a snapshot after which older ones are dropped

export class History {
  #kept = []; // {time in seconds, snapshot}, oldest first

  /**
   * add takes a snapshot, and tells whether the process was restarted before it, and
   * whether it does not directly follow the last one. In both cases rates start over.
   *
   * A restart is known by a counter that went down. When the process started does not
   * tell it: Linux counts that from the wall clock, so it moves when that is set.
   */
  add(time, snapshot) {
    const before = this.#kept.at(-1);
    const last = before?.snapshot;
    const restarted = last !== undefined && Object.entries(last.counts).some(([name, n]) => (snapshot.counts[name] ?? 0) < n);
    const apart = restarted || time - before?.time > GAP;
    if (apart) this.#kept = [];
    this.#kept.push({ time, snapshot });
    while (this.#kept[0].time < time - KEPT) this.#kept.shift();
    return { restarted, apart };
  }

  get latest() {
    return this.#kept.at(-1).snapshot;
  }

  // The oldest snapshot within the last seconds, or the one before the latest if seconds
  // is 0. There may be none.
  #first(seconds) {
    if (seconds === 0) return this.#kept.at(-2);
    const since = this.#kept.at(-1).time - seconds - SLACK;
    const first = this.#kept.find(({ time }) => time >= since);
    return first === this.#kept.at(-1) ? undefined : first;
  }

  /**
   * rate is a counter's increase a second over the last seconds, or since the last
   * snapshot if seconds is 0. null where it is not known.
   */
  rate(name, seconds) {
    const first = this.#first(seconds);
    const last = this.#kept.at(-1);
    if (!first || !(name in last.snapshot.counts)) return null;
    return (last.snapshot.counts[name] - (first.snapshot.counts[name] ?? 0)) / (last.time - first.time);
  }

  /**
   * quantile estimates, as Prometheus' histogram_quantile does, within the bucket
   * that it falls into. null where nothing was observed in the last seconds.
   */
  quantile(histogram, q, seconds) {
    const first = this.#first(seconds)?.snapshot.buckets[histogram];
    const last = this.latest.buckets[histogram];
    if (!first || !last) return null;
    const bounds = [...last.keys()].sort((a, b) => a - b);
    const counts = bounds.map((bound) => last.get(bound) - (first.get(bound) ?? 0));
    const rank = q * counts.at(-1);
    if (rank === 0) return null;
    const i = counts.findIndex((count) => count >= rank);
    if (bounds[i] === Infinity) return bounds[i - 1];
    const [below, lower] = i > 0 ? [counts[i - 1], bounds[i - 1]] : [0, 0];
    return lower + (bounds[i] - lower) * (rank - below) / (counts[i] - below);
  }
}
