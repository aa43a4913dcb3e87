package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// batch is what can be counted of some records. The slices go together: events[i]
// was read from records[i], which was received at received[i].
type batch struct {
	events   []tracking.Event
	records  []*kgo.Record
	received []time.Time
}

// dropped is a record that cannot be counted, and why.
type dropped struct {
	record *kgo.Record
	why    *tracking.DropError
}

// decode reads the events out of fetches, and sets aside what holds none.
func decode(fetches kgo.Fetches) (batch, []dropped) {
	n := fetches.NumRecords()
	b := batch{make([]tracking.Event, 0, n), make([]*kgo.Record, 0, n), make([]time.Time, 0, n)}
	var unreadable []dropped
	fetches.EachRecord(func(r *kgo.Record) {
		provider, webhookID, receivedAt := readHeaders(r)
		var event tracking.Event
		var err error
		switch provider {
		case tracking.Resend:
			event, err = tracking.DecodeResend(webhookID, receivedAt, r.Value)
		default:
			err = &tracking.DropError{Reason: tracking.NoProvider, Detail: "no header provider with a known value"}
		}
		var why *tracking.DropError
		if errors.As(err, &why) {
			unreadable = append(unreadable, dropped{r, why})
			return
		}
		b.events = append(b.events, event)
		b.records = append(b.records, r)
		b.received = append(b.received, receivedAt)
	})
	return b, unreadable
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

// apply applies b in one transaction. A single event that PostgreSQL refuses for
// good comes back as refused; of several it is not known which, and the error is
// a *[tracking.RefusedError].
func (c *Consumer) apply(ctx context.Context, b batch) (refused []dropped, err error) {
	if len(b.events) == 0 {
		return nil, nil
	}
	start := time.Now()
	result, err := c.store.Apply(ctx, b.events)
	var refusal *tracking.RefusedError
	switch {
	case err == nil:
		c.metrics.applied(b, result, time.Since(start))
		return nil, nil
	case errors.As(err, &refusal) && len(b.events) == 1:
		why := &tracking.DropError{Reason: tracking.Refused, Type: b.events[0].Type, Detail: refusal.Detail()}
		return []dropped{{b.records[0], why}}, nil
	}
	return nil, err
}
