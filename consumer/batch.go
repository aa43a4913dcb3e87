package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// item is a record, and what it says: an event, or why it cannot be counted.
type item struct {
	record   *kgo.Record
	event    tracking.Event
	why      *tracking.DropError // nil for an event
	received time.Time
}

// decode reads all records, in their order.
func decode(fetches kgo.Fetches) []item {
	items := make([]item, 0, fetches.NumRecords())
	fetches.EachRecord(func(r *kgo.Record) {
		provider, webhookID, receivedAt := readHeaders(r)
		i := item{record: r, received: receivedAt}
		var err error
		switch provider {
		case tracking.Resend:
			i.event, err = tracking.DecodeResend(webhookID, receivedAt, r.Value)
		default:
			err = &tracking.DropError{Reason: tracking.NoProvider, Detail: "no header provider with a known value"}
		}
		errors.As(err, &i.why)
		items = append(items, i)
	})
	return items
}

// readHeaders reads what the producer wrote. Where it does not say when a
// webhook was received, the record's own time is the best there is.
func readHeaders(r *kgo.Record) (provider, webhookID string, receivedAt time.Time) {
	receivedAt = r.Timestamp
	for _, h := range r.Headers {
		switch h.Key {
		case "provider":
			provider = string(h.Value)
		case "webhook-id":
			webhookID = string(h.Value)
		case "received-at":
			if t, err := time.Parse(time.RFC3339Nano, string(h.Value)); err == nil {
				receivedAt = t
			}
		}
	}
	return provider, webhookID, receivedAt
}

// workOff works items off from the front, in the order that loses nothing:
// PostgreSQL commits, then Kafka acknowledges the dead letters. It gives those
// that are left when an error stops it; the others are done.
//
// All are taken at once if possible. Where PostgreSQL refuses a row for good, or
// takes too long, they are taken in halves: until the row is alone, which makes
// it a dead letter, or the database keeps up. How many go is remembered, so that
// the next batch does not start over.
func (c *Consumer) workOff(ctx context.Context, items []item) (left []item, err error) {
	for len(items) > 0 {
		n := min(c.limit, len(items))
		alone, err := c.apply(ctx, items[:n])
		var refusal *tracking.RefusedError
		switch {
		case errors.As(err, &refusal):
			c.limit = n / 2 // n > 1: a single one is no error
			continue
		case err != nil && tracking.RetryReason(err) == tracking.RetryTimeout:
			c.limit = max(1, n/2)
			return items, err
		case err != nil:
			return items, err
		}
		if dead, err := c.deadLetter(ctx, items[:n]); err != nil {
			c.metrics.retries.WithLabelValues(retryDeadLetter).Inc()
			return items[dead:], err // what comes before it is applied
		}
		items = items[n:]
		if !alone { // a refused row seldom comes alone
			c.limit = min(c.limit+c.limit/4+1, c.maxBatch)
		}
	}
	return nil, nil
}

// apply applies the events of items in one transaction. alone says that the only
// one was an event which PostgreSQL refuses for good, and which is marked so; one
// among others is a *[tracking.RefusedError].
func (c *Consumer) apply(ctx context.Context, items []item) (alone bool, err error) {
	events := make([]tracking.Event, 0, len(items))
	last := 0
	for i := range items {
		if items[i].why == nil {
			events = append(events, items[i].event)
			last = i
		}
	}
	if len(events) == 0 {
		return false, nil
	}
	start := time.Now()
	result, err := c.store.Apply(ctx, events)
	var refusal *tracking.RefusedError
	switch {
	case err == nil:
		c.metrics.countApplied(items, result, time.Since(start))
	case errors.As(err, &refusal) && len(events) == 1:
		items[last].why = &tracking.DropError{Reason: tracking.Refused, Type: events[0].Type, Detail: refusal.Detail()}
		return true, nil
	case refusal == nil:
		c.metrics.retries.WithLabelValues(tracking.RetryReason(err)).Inc()
	}
	return false, err
}
