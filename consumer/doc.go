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
//   - consumed = applied + duplicate + dropped + refetched + in flight, in every
//     scrape of every member. The two sides are counted at different places, so an
//     event that is lost between them, or counted twice, shows.
//   - While the database is away nothing is dropped and nothing is committed: the
//     member stays in its group, waits, and fetches the same records again.
//   - Offsets are committed only of partitions that the member owns: a rebalance
//     waits until what writers have begun is done; the rest is left to whoever gets
//     the partitions.
//   - A partition that cannot be fetched holds up no other.
//
// Memory is bounded by the window and by what is fetched ahead of it, both in bytes
// as they are unpacked, never by the backlog.
//
// # Words
//
// A batch is what one poll brought, a share the part of it that one writer works off.
// The window holds the batches in hand. A writer's transaction takes all shares that
// wait for it. To commit, without more, is said of offsets; what PostgreSQL does is
// said with its name.
package consumer
