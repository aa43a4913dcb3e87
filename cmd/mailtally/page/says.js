// What the page says of its numbers, in words.

import { ago, clock, count } from './format.js';

/** whose names the parts of the pipe that this process runs. */
export function whose({ producer, consumer }) {
  return producer && consumer ? 'mailtally dev: the whole pipe in one process, with simulated webhooks unless that is turned off.'
    : producer ? 'A producer: it receives webhooks and writes them to Kafka.'
    : consumer ? 'A consumer: one member of the group, with its share of the partitions.'
    : 'A process that is neither producer nor consumer.';
}

/**
 * verdict says whether every event is accounted for. Consumption and outcomes are counted
 * at different places, so an event that is lost in between, or counted twice, shows here.
 */
export function verdict({ consumed, applied, duplicate, dropped, refetched = 0, lost = 0 }, inFlight = 0) {
  const missing = consumed - applied - duplicate - dropped - refetched - inFlight;
  return !consumed ? ['wait', 'No events yet']
    : lost > 0 ? ['no', `${count(lost)} lost`]
    : missing !== 0 ? ['no', `${count(Math.abs(missing))} ${missing > 0 ? 'unaccounted for' : 'counted twice'}`]
    : ['yes', 'All accounted for'];
}

/** late explains the delay shown, the 99th percentile in seconds, or why there is none. */
export function late(p99, { consumer }, lag) {
  return p99 !== null ? `or less for 99 % of ${consumer ? 'events' : 'webhooks'}, last 10 s`
    : consumer && lag === null ? 'none in the last 10 s; lag not known'
    : lag > 0 ? `none in the last 10 s; ${count(lag)} waiting`
    : 'none in the last 10 s';
}

/** since says when the process started: times are in seconds. */
export function since(started, now, restarted) {
  if (started === undefined) return '';
  const at = `${clock(started * 1000)}, ${ago(Math.max(0, now - started))} ago`;
  return restarted ? ` It was restarted at ${at}: totals start there.` : ` Totals are since its start at ${at}.`;
}
