// Package tracking is the domain of mailtally: what an email event is, how a
// provider's webhook body becomes one, and how events change the tally in
// PostgreSQL. It knows neither Kafka nor HTTP.
//
// # Guarantees
//
// The tally is one row per email in mailtally.email. [Store.Apply] takes a batch of
// events and, in one transaction, updates the rows and appends the events to the history:
//
//   - Each distinct event, identified by (email id, event id), changes the tally
//     exactly once, however often and in however many batches it is given.
//   - The rows are a pure function of the set of distinct events: order, batching
//     and concurrency do not matter.
//   - Exactly one committed Apply reports a given email's first open, and exactly
//     one its first click.
//   - The cost of an event does not grow with the number of events that its email
//     has, nor with the size of the history.
//
// None of this depends on explicit locks or on an isolation level above READ COMMITTED.
// It depends on one conditional statement, INSERT … ON CONFLICT DO UPDATE … WHERE the row
// has counted none of these events; see the comments in upsert.go.
package tracking
