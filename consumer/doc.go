// Package consumer is a member of the consumer group: it takes webhooks from
// Kafka, applies them to the tally in PostgreSQL, and sets aside what cannot be
// counted.
//
// # Guarantees
//
// Kafka delivers at least once; the effect on the tally is exactly once, because
// [tracking.Store.Apply] counts an event once however often it comes.
//
//   - An offset is committed only after PostgreSQL has committed everything up to
//     it, and Kafka has acknowledged the dead letters of what was dropped.
//   - consumed = applied + duplicate + dropped, in the metrics of every member.
//   - While the database is away nothing is dropped and nothing is committed: the
//     member stays in its group, waits, and fetches the same records again.
//   - Offsets are committed only of partitions that the member owns: a rebalance
//     waits until what writers have begun is done; the rest is left to whoever gets
//     the partitions.
//
// Memory is bounded by the batch and the fetch limits, never by the backlog.
package consumer
