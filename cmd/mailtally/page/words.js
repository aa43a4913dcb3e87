// The metrics' label values in plain words, in the order in which they are shown. A value
// that is not listed is shown as it is.

export const types = {
  scheduled: 'scheduled', sent: 'sent', delivered: 'delivered', delivery_delayed: 'delayed', opened: 'opened', clicked: 'clicked',
  bounced: 'bounced', complained: 'complained', failed: 'failed', suppressed: 'suppressed', unknown: 'unknown',
};

export const reasons = {
  not_json: 'the body is not a JSON object',
  no_type: 'no type',
  untracked_type: 'a type that is not tracked',
  no_email_id: 'no email id',
  bad_email_id: 'the email id is not a UUID',
  no_event_id: 'no event id',
  bad_time: 'no readable time',
  time_out_of_range: 'before 2000 or in the future',
  no_provider: 'the provider is not known',
  refused: 'PostgreSQL refused the row',
  too_large: 'larger than the topic takes',
};

export const retries = {
  connection: 'no connection to PostgreSQL',
  timeout: 'PostgreSQL took too long',
  conflict: 'two transactions conflicted',
  resources: 'PostgreSQL is full or too busy',
  schema: 'schema missing or wrong version',
  dead_letter: 'Kafka did not take a dead letter',
  other: 'anything else',
};

export const flows = {
  received: 'webhooks received', accepted: 'accepted, in Kafka', refused: 'refused', ignored: 'ignored',
  malformed: 'unreadable, to the dead letters', consumed: 'taken from Kafka', applied: 'counted', duplicate: 'repeats',
  dropped: 'dropped, to the dead letters', firstopens: 'first opens', firstclicks: 'first clicks',
};

/** The flows of a producer, and of a consumer. */
export const ofPart = {
  producer: ['received', 'accepted', 'refused', 'ignored', 'malformed'],
  consumer: ['consumed', 'applied', 'duplicate', 'dropped', 'firstopens', 'firstclicks'],
};

export const times = {
  delay: { says: 'in its row', part: 'consumer' },
  publish: { says: 'in Kafka', part: 'producer' },
  apply: { says: 'per batch', part: 'consumer' },
};
