// Package producer is the webhook gateway: it takes providers' webhooks over HTTP and
// writes them to Kafka, keyed by email id.
//
// # Guarantees
//
//   - A 200 is sent only after Kafka has acknowledged the record of each of the request's
//     events, with acks=all and an idempotent producer: what was accepted is on all
//     in-sync replicas. (An event that is ignored has no record.)
//   - Nothing is processed before its provider has proved that it sent it.
//   - Every other answer makes the provider retry, except for requests that can never
//     succeed: too large, or not a POST.
//   - Memory is bounded, however many requests wait for Kafka while it is down.
//   - Neither a body nor a secret is ever logged.
package producer
