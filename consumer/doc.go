// Package consumer is a member of the consumer group. It polls webhooks from Kafka,
// applies them to the tally in PostgreSQL, and sets aside what cannot be counted.
//
// # Guarantees
//
// Kafka delivers at least once. The effect on the tally is exactly once, because
// [tracking.Store.Apply] counts an event once however often it is delivered.
//
//   - An offset is committed only after PostgreSQL has committed everything up to it and
//     Kafka has acknowledged the dead letters of what was dropped.
//   - consumed = applied + duplicate + dropped + refetched + in flight, in every scrape
//     of every member. The two sides are counted in different places, so an event that is
//     lost or counted twice between them shows.
//   - While the database is down, nothing is dropped and nothing is committed: the member
//     stays in its group, waits, and fetches the same records again.
//   - A member commits offsets only of partitions that it owns. A rebalance waits until
//     the writers have finished what they have begun; the rest is left to the partitions'
//     new owners.
//   - A partition that cannot be fetched does not hold up the others.
//
// Memory is bounded by the window and by what is fetched ahead of it, both in
// uncompressed bytes, never by the backlog.
//
// # Words
//
// A batch is what one poll returned; a share is the part of it that one writer processes.
// The window holds the batches in progress. A writer's transaction takes all the shares
// that wait for it. Commit, on its own, refers to offsets; a database commit always names
// PostgreSQL.
package consumer
