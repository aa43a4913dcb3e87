// The metrics' labels in plain words, in the order in which they are shown. What is
// not listed here is shown by its own name.

export const types = {
  scheduled: 'scheduled', sent: 'sent', delivered: 'delivered', delivery_delayed: 'delayed', opened: 'opened', clicked: 'clicked',
  bounced: 'bounced', complained: 'complained', failed: 'failed', suppressed: 'suppressed', unknown: 'unknown',
};

export const reasons = {
  not_json: 'the body is no JSON object',
  no_type: 'no type',
  untracked_type: 'a type that is not tracked',
  no_email_id: 'no email id',
  bad_email_id: 'an email id that is no UUID',
  no_event_id: 'no event id came with it',
  bad_time: 'no readable time',
  time_out_of_range: 'before the year 2000, or to come',
  no_provider: 'names no known provider',
  refused: 'PostgreSQL refuses the row',
};

export const retries = {
  connection: 'no connection to PostgreSQL',
  timeout: 'PostgreSQL took too long',
  conflict: 'two transactions met',
  resources: 'PostgreSQL is full or too busy',
  schema: 'its schema is not the right one',
  dead_letter: 'Kafka did not take a dead letter',
  other: 'anything else',
};

export const flows = {
  received: 'webhooks received', accepted: 'accepted, in Kafka', refused: 'refused', ignored: 'ignored',
  malformed: 'unreadable, to the dead letters', consumed: 'taken from Kafka', applied: 'counted', duplicate: 'repeats',
  dropped: 'dropped, to the dead letters', firstopens: 'first opens', firstclicks: 'first clicks',
};

/** ofPart are the flows that a producer, or a consumer, has. */
export const ofPart = {
  producer: ['received', 'accepted', 'refused', 'ignored', 'malformed'],
  consumer: ['consumed', 'applied', 'duplicate', 'dropped', 'firstopens', 'firstclicks'],
};

export const times = {
  delay: { says: 'in its row', part: 'consumer' },
  publish: { says: 'in Kafka', part: 'producer' },
  apply: { says: 'per batch', part: 'consumer' },
};
