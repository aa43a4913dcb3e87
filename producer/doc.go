// Package producer is the webhook gateway: it takes providers' webhooks over
// HTTP and writes them to Kafka, keyed by email id.
//
// # Guarantees
//
//   - A 200 is answered only after Kafka has acknowledged the record of each of the
//     request's events, with acks=all and an idempotent producer: what was accepted is
//     on all in-sync replicas. (An event that is ignored has no record.)
//   - Nothing gets further than its provider's proof that it sent it.
//   - Every other answer has the provider send again, but for what will never be
//     right: too large, not a POST.
//   - Memory is bounded, however many requests wait for a Kafka that is away.
//   - Neither a body nor a secret is ever logged.
package producer
