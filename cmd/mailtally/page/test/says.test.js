import assert from 'node:assert/strict';
import test from 'node:test';

import { describe } from '../pipe.js';
import { late, since, verdict, whose } from '../says.js';
import { flows, ofPart } from '../words.js';

const whole = { consumed: 100, applied: 80, duplicate: 10, dropped: 4, refetched: 3, lost: 0 };

test('every event is accounted for, or the page says how many are not', () => {
  assert.deepEqual(verdict(whole, 3), ['yes', 'All accounted for']);
  assert.deepEqual(verdict({ ...whole, consumed: 1100 }, 3), ['no', '1,000 unaccounted for']);
  assert.deepEqual(verdict({ ...whole, applied: 81 }, 3), ['no', '1 counted twice']);
  assert.deepEqual(verdict(whole, 2), ['no', '1 unaccounted for']);
  assert.deepEqual(verdict({ ...whole, lost: 7 }, 3), ['no', '7 lost']);
  assert.deepEqual(verdict({ consumed: 0, applied: 0, duplicate: 0, dropped: 0 }), ['wait', 'No events yet']);
  assert.deepEqual(verdict({}), ['wait', 'No events yet'], 'a producer');
});

test('if no delay is shown, the page says why', () => {
  const [producer, consumer] = [{ producer: true }, { consumer: true }];
  assert.equal(late(0.5, consumer, 0), 'or less for 99 % of events, last 10 s');
  assert.equal(late(0.5, producer, null), 'or less for 99 % of webhooks, last 10 s');
  assert.equal(late(null, consumer, 0), 'none in the last 10 s');
  assert.equal(late(null, consumer, 1234), 'none in the last 10 s; 1,234 waiting');
  assert.equal(late(null, consumer, null), 'none in the last 10 s; lag not known');
  assert.equal(late(null, producer, null), 'none in the last 10 s');
});

test('a restart is announced', () => {
  assert.match(since(1000, 1090, false), /^ Totals are since its start at \d\d:\d\d:\d\d, 90 s ago\.$/);
  assert.match(since(1000, 1090, true), /^ It was restarted at \d\d:\d\d:\d\d, 90 s ago: totals start there\.$/);
  assert.match(since(1000, 990, false), /, 0 s ago/, "the server's clock is ahead");
  assert.equal(since(undefined, 990, false), '');
});

test('each role is named', () => {
  assert.match(whose({ producer: true, consumer: true }), /^mailtally dev:/);
  assert.match(whose({ producer: true, consumer: false }), /^A producer:/);
  assert.match(whose({ producer: false, consumer: true }), /^A consumer:/);
});

test('the picture is described in words, for the parts that this process has', () => {
  const numbers = (name, as) => (as === 'rate' ? '2.0' : `${name.length}`);
  const both = describe(numbers, { producer: true, consumer: true });
  assert.match(both, /^Producer: received 2\.0 a second, 8 in total; .*\. Consumers: consumed 2\.0 a second, 8 in total; .*; 3 waiting in Kafka; first opens 10; first clicks 11\.$/);
  assert.doesNotMatch(describe(numbers, { producer: true }), /Consumers/);
  assert.match(describe((name) => (name === 'lag' ? '–' : '1'), { consumer: true }), /^Consumers: .*lag not known/);
});

test('each flow has a description', () => {
  for (const name of [...ofPart.producer, ...ofPart.consumer]) assert.ok(flows[name], name);
});
