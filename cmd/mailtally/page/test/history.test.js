import assert from 'node:assert/strict';
import test from 'node:test';

import { Clock } from '../clock.js';
import { History } from '../history.js';
import { Trail } from '../trail.js';

const snapshot = (counts, buckets = {}) => ({ counts, buckets });

/** kept is a history of snapshots, the first at 0 and then one a second. */
function kept(...snapshots) {
  const history = new History();
  snapshots.forEach((s, i) => history.add(i, s));
  return history;
}

test('rates and quantiles look back as far as they say', () => {
  const seconds = Array.from({ length: 71 }, (_, i) => snapshot({ n: i * i }, { d: new Map([[1, 20 * i], [0.1, 10 * i], [Infinity, 20 * i]]) }));
  const h = kept(...seconds);
  assert.equal(h.rate('n', 0), 70 ** 2 - 69 ** 2);
  assert.equal(h.rate('n', 10), (70 ** 2 - 60 ** 2) / 10);
  assert.equal(h.rate('n', 60), (70 ** 2 - 10 ** 2) / 60);
  assert.equal(h.rate('none', 10), null);
  assert.equal(h.quantile('d', 0.5, 10), 0.1);
  assert.equal(h.quantile('d', 0.25, 10), 0.05);
  assert.equal(h.quantile('d', 0.75, 60), 0.55);
  assert.equal(h.quantile('none', 0.5, 10), null);
});

test('a window longer than the history covers all of it', () => {
  assert.equal(kept(snapshot({ n: 0 })).rate('n', 10), null);
  assert.equal(kept(snapshot({ n: 0 }), snapshot({ n: 6 }), snapshot({ n: 8 })).rate('n', 10), 4);
});

test('a counter that has just appeared began at 0', () => {
  assert.equal(kept(snapshot({}), snapshot({ n: 5 })).rate('n', 10), 5);
});

test('quantiles are of the increase alone', () => {
  const d = (low, all) => snapshot({}, { d: new Map([[1, low], [2, all], [Infinity, all]]) });
  assert.equal(kept(d(1000, 1000), d(1000, 1010)).quantile('d', 0.5, 10), 1.5);
  assert.equal(kept(d(5, 10), d(5, 10)).quantile('d', 0.5, 10), null, 'nothing was observed');
});

test('a quantile above the last bound is given as that bound', () => {
  const d = (n) => snapshot({}, { d: new Map([[1, 0], [Infinity, n]]) });
  assert.equal(kept(d(0), d(5)).quantile('d', 0.5, 10), 1);
});

test('a restart gives no negative rate', () => {
  const h = kept(snapshot({ n: 100 }));
  assert.deepEqual(h.add(1, snapshot({ n: 7 })), { restarted: true, apart: true });
  assert.equal(h.rate('n', 10), null);
  assert.deepEqual(h.add(2, snapshot({ n: 200 })), { restarted: false, apart: false });
  assert.equal(h.rate('n', 10), 193);
});

test("setting the server's clock is not a restart", () => {
  const h = kept({ ...snapshot({ n: 100, zero: 0 }), started: 5000 });
  assert.equal(h.add(1, { ...snapshot({ n: 150, zero: 0 }), started: 8600 }).restarted, false);
  assert.equal(h.rate('n', 10), 50);
});

test('after a hidden spell rates start again', () => {
  const h = kept(snapshot({ n: 0 }));
  assert.deepEqual(h.add(6, snapshot({ n: 1000 })), { restarted: false, apart: true });
  assert.equal(h.rate('n', 0), null);
  assert.equal(h.rate('n', 10), null);
});

test('a night of sleep counts in full, and setting the clock back changes nothing', () => {
  let [monotonic, wall] = [50, 1000];
  const clock = new Clock(() => monotonic, () => wall);
  const first = clock.now();
  const passed = [[1, 1], [1, 1.5], [1, 30001], [1, -3600], [1, 1]].map(([m, w]) => {
    [monotonic, wall] = [monotonic + m, wall + w];
    return clock.now() - first;
  });
  assert.deepEqual(passed, [1, 2, 30003, 30004, 30005]);
});

test('charts begin with a minute, grow to five, and forget what is older', () => {
  const trail = new Trail();
  trail.add(1000, { a: 1 });
  assert.deepEqual(trail.range(), [940, 1000]);
  trail.add(1090, { a: 2 });
  assert.deepEqual(trail.range(), [1000, 1090]);
  trail.restarts.push(1090);
  trail.add(1195, { a: 3 });
  trail.add(1500, { a: 4 });
  assert.deepEqual(trail.range(), [1200, 1500]);
  assert.deepEqual([trail.times, trail.values('a'), trail.restarts], [[1195, 1500], [3, 4], []]);
});

test('a value that is not known breaks its line', () => {
  const trail = new Trail();
  trail.add(1, { a: 1 });
  trail.add(2, { b: 5 });
  trail.add(3, { a: 3, b: null });
  assert.deepEqual(trail.values('a'), [1, null, 3]);
  assert.deepEqual(trail.values('b'), [null, 5, null]);
  assert.deepEqual(trail.values('c'), [null, null, null]);
});
