// A scrape, in this page's terms. If one process has several members, their series are
// summed.

import { samples } from './metrics.js';

const refusals = ['unauthorized', 'incomplete', 'too_large', 'unavailable'];

const histograms = {
  mailtally_event_delay_seconds: 'delay',
  mailtally_publish_duration_seconds: 'publish',
  mailtally_apply_duration_seconds: 'apply',
  mailtally_apply_batch_events: 'batch',
};

const wanted = (name) => name === 'process_start_time_seconds' ||
  name.startsWith('mailtally_') && !name.startsWith('mailtally_kafka_');

/**
 * read makes a snapshot of the text of /metrics:
 *   counts      counters by the names that the page's elements have in data-n
 *   buckets     of each histogram, cumulative: Map of upper bound to count
 *   lags        {topic, partition, member, value} of each partition owned whose lag is known
 *   lag         their sum; null if none is known, which is not 0
 *   inFlight    events in flight: a gauge, so not one of the counts, whose fall means a restart
 *   started     when the process started, in seconds, if it says so
 *   producer, consumer   which parts of the pipe this process is
 */
export function read(text) {
  const s = { counts: {}, buckets: {}, lags: [], lag: null, inFlight: 0, started: undefined, producer: false, consumer: false };
  const add = (value, ...names) => {
    for (const name of names) s.counts[name] = (s.counts[name] ?? 0) + value;
  };
  for (const { name, labels, value } of samples(text, wanted)) {
    const { type, reason } = labels;
    switch (name) {
      case 'process_start_time_seconds':
        s.started = value;
        break;
      case 'mailtally_webhooks_total':
        s.producer = true;
        add(value, 'received', labels.result);
        add(refusals.includes(labels.result) ? value : 0, 'refused');
        add(labels.result === 'malformed' ? value : 0, 'deadletters');
        break;
      case 'mailtally_events_consumed_total':
        s.consumer = true;
        add(value, 'consumed', 'consumed.' + type);
        break;
      case 'mailtally_events_applied_total':
        add(value, 'applied', 'applied.' + type);
        break;
      case 'mailtally_events_duplicate_total':
        add(value, 'duplicate', 'duplicate.' + type);
        break;
      case 'mailtally_events_dropped_total':
        add(value, 'dropped', 'dropped.' + type, 'dropped.for.' + reason, 'deadletters');
        if (type === 'clicked') add(value, 'dropped.clicked.for.' + reason);
        break;
      case 'mailtally_events_refetched_total':
        add(value, 'refetched');
        break;
      case 'mailtally_events_in_flight':
        s.inFlight += value;
        break;
      case 'mailtally_first_opens_total':
        add(value, 'firstopens');
        break;
      case 'mailtally_first_clicks_total':
        add(value, 'firstclicks');
        break;
      case 'mailtally_apply_retries_total':
        add(value, 'retries', 'retries.for.' + reason);
        break;
      case 'mailtally_records_lost_total':
        add(value, 'lost');
        break;
      case 'mailtally_consumer_lag':
        s.lags.push({ topic: labels.topic, partition: Number(labels.partition), member: labels.member ?? '', value });
        s.lag += value;
        break;
      default:
        readBucket(s.buckets, name, labels.le, value);
    }
  }
  s.lags.sort((a, b) => a.topic.localeCompare(b.topic) || a.partition - b.partition);
  return s;
}

function readBucket(buckets, name, le, value) {
  const histogram = name.endsWith('_bucket') && histograms[name.slice(0, -'_bucket'.length)];
  if (!histogram) return;
  const counts = buckets[histogram] ??= new Map();
  const bound = le === '+Inf' ? Infinity : Number(le);
  counts.set(bound, (counts.get(bound) ?? 0) + value);
}
