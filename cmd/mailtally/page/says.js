// What the page says of its numbers, in words.

import { ago, clock, count } from './format.js';

/** whose says which parts of the pipe this process is. */
export function whose({ producer, consumer }) {
  return producer && consumer ? 'mailtally dev: the whole pipe in one process, with simulated webhooks unless that is turned off.'
    : producer ? 'A producer: it takes webhooks and puts them into Kafka.'
    : consumer ? 'A consumer: one member of the group, with its share of the partitions.'
    : 'A process without a part in the pipe.';
}

/**
 * verdict is whether every event is accounted for, and the words for it. What was
 * consumed and what became of it are counted at different places, so an event that is
 * lost between them, or counted twice, shows here.
 */
export function verdict({ consumed, applied, duplicate, dropped, refetched = 0, lost = 0 }, inFlight = 0) {
  const missing = consumed - applied - duplicate - dropped - refetched - inFlight;
  return !consumed ? ['wait', 'None has come yet']
    : lost > 0 ? ['no', `${count(lost)} lost`]
    : missing !== 0 ? ['no', `${count(Math.abs(missing))} ${missing > 0 ? 'unaccounted for' : 'counted twice'}`]
    : ['yes', 'All accounted for'];
}

/** late explains the delay that is shown, or why there is none: 99 of 100 took `p99` seconds. */
export function late(p99, { consumer }, lag) {
  return p99 !== null ? `or less: 99 of 100 ${consumer ? 'events' : 'webhooks'}, last 10 s`
    : consumer && lag === null ? 'none in the last 10 s; lag not known'
    : lag > 0 ? `none in the last 10 s; ${count(lag)} wait`
    : 'none in the last 10 s';
}

/** since says when the process started: times are in seconds. */
export function since(started, now, restarted) {
  if (started === undefined) return '';
  const at = `${clock(started * 1000)}, ${ago(Math.max(0, now - started))} ago`;
  return restarted ? ` It was restarted at ${at}: totals began anew.` : ` Totals are since its start at ${at}.`;
}
