// Package producer is the webhook gateway: it takes providers' webhooks over
// HTTP and writes them to Kafka, keyed by email id.
//
// # Guarantees
//
//   - A 2xx is answered only after Kafka has acknowledged the record, with
//     acks=all and an idempotent producer: what was accepted is on all in-sync
//     replicas. (A webhook that is ignored has no record.)
//   - Nothing unsigned gets further than the signature check, which is over the
//     raw bytes and in constant time.
//   - Every other answer tells the provider to send again, but for what will
//     never be right: too large, not a POST.
//   - Memory is bounded, however many requests wait for a Kafka that is away.
//   - Neither a body nor a secret is ever logged.
package producer
