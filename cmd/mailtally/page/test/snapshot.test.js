import assert from 'node:assert/strict';
import test from 'node:test';

import { samples } from '../metrics.js';
import { read } from '../snapshot.js';

test('metrics are read as Prometheus writes them', () => {
  const text = String.raw`# HELP a b{c="d"} 1
a 1
b{} 2
c{x="1",y="q\"u\\o\nte}, {"} 3e+06 1712345678
d{le="+Inf"} +Inf
skipped 5

e{z=""} -0.5`;
  assert.deepEqual([...samples(text, (name) => name !== 'skipped')], [
    { name: 'a', labels: {}, value: 1 },
    { name: 'b', labels: {}, value: 2 },
    { name: 'c', labels: { x: '1', y: 'q"u\\o\nte}, {' }, value: 3e6 },
    { name: 'd', labels: { le: '+Inf' }, value: Infinity },
    { name: 'e', labels: { z: '' }, value: -0.5 },
  ]);
});

test('series are summed over members, by what became of the events', () => {
  const s = read(`
mailtally_webhooks_total{provider="resend",result="accepted"} 5
mailtally_webhooks_total{provider="resend",result="ignored"} 3
mailtally_webhooks_total{provider="resend",result="malformed"} 1
mailtally_webhooks_total{provider="resend",result="unauthorized"} 10
mailtally_webhooks_total{provider="resend",result="too_large"} 20
mailtally_webhooks_total{provider="resend",result="incomplete"} 80
mailtally_webhooks_total{provider="resend",result="unavailable"} 40
mailtally_events_consumed_total{member="1",type="opened"} 100
mailtally_events_consumed_total{member="2",type="clicked"} 1
mailtally_events_applied_total{member="1",type="opened"} 70
mailtally_events_applied_total{member="2",type="opened"} 7
mailtally_events_duplicate_total{member="1",type="opened"} 6
mailtally_events_dropped_total{member="1",reason="bad_time",type="clicked"} 3
mailtally_events_dropped_total{member="2",reason="bad_time",type="opened"} 4
mailtally_events_refetched_total{member="1"} 8
mailtally_events_in_flight{member="1"} 2
mailtally_events_in_flight{member="2"} 1
mailtally_first_opens_total 50
mailtally_first_clicks_total 20
mailtally_records_lost_total{topic="t"} 9
mailtally_apply_retries_total{reason="timeout"} 11
mailtally_apply_retries_total{reason="conflict"} 1
mailtally_kafka_produce_total 99
process_start_time_seconds 1.5e9
`);
  assert.deepEqual(s.counts, {
    received: 159, accepted: 5, ignored: 3, malformed: 1, unauthorized: 10, incomplete: 80, too_large: 20, unavailable: 40, refused: 150,
    consumed: 101, 'consumed.opened': 100, 'consumed.clicked': 1, applied: 77, 'applied.opened': 77, duplicate: 6, 'duplicate.opened': 6,
    dropped: 7, 'dropped.clicked': 3, 'dropped.opened': 4, 'dropped.for.bad_time': 7, 'dropped.clicked.for.bad_time': 3, deadletters: 8,
    refetched: 8, firstopens: 50, firstclicks: 20, lost: 9, retries: 12, 'retries.for.timeout': 11, 'retries.for.conflict': 1,
  });
  assert.deepEqual([s.inFlight, s.started, s.producer, s.consumer], [3, 1.5e9, true, true]);
});

test("a process's role follows from its metrics", () => {
  for (const [metric, parts] of [['mailtally_webhooks_total{result="accepted"} 0', [true, false]], ['mailtally_events_consumed_total{type="opened"} 0', [false, true]], ['up 1', [false, false]]]) {
    const { producer, consumer } = read(metric);
    assert.deepEqual([producer, consumer], parts, metric);
  }
});

test("a histogram's buckets are summed by their bounds", () => {
  const { buckets } = read(`
mailtally_event_delay_seconds_bucket{member="1",le="0.5"} 1
mailtally_event_delay_seconds_bucket{member="2",le="0.5"} 2
mailtally_event_delay_seconds_bucket{member="2",le="+Inf"} 9
mailtally_event_delay_seconds_sum 5
mailtally_apply_batch_events_bucket{le="10"} 4
mailtally_other_seconds_bucket{le="1"} 1
`);
  assert.deepEqual(buckets, { delay: new Map([[0.5, 3], [Infinity, 9]]), batch: new Map([[10, 4]]) });
});

test('no lag is not a lag of 0', () => {
  const lag = (partition, value) => `mailtally_consumer_lag{topic="t",partition="${partition}"} ${value}\n`;
  assert.equal(read('').lag, null);
  assert.equal(read(lag(0, 0)).lag, 0);
  const { lag: sum, lags } = read(lag(10, 4) + lag(2, 3));
  assert.equal(sum, 7);
  assert.deepEqual(lags.map(({ partition, value }) => [partition, value]), [[2, 3], [10, 4]]);
});
