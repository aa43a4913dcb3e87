package consumer

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// item is a record, and what it says: an event, or why it cannot be counted.
type item struct {
	partition, epoch int32
	offset           int64
	record           *kgo.Record // nil once it is decoded, if it need not be kept
	bytes            int         // of the record's value
	event            tracking.Event
	why              *tracking.DropError // nil for an event
	received         time.Time
	done             bool // counted and committed, or its dead letter acknowledged
}

func newItem(r *kgo.Record) item {
	return item{partition: r.Partition, epoch: r.LeaderEpoch, offset: r.Offset, record: r, bytes: len(r.Value)}
}

// decode reads what the record says. The record of an event is let go, unless
// keep: it is several times as large as the event.
func (i *item) decode(keep bool) {
	provider, webhookID, receivedAt := readHeaders(i.record)
	i.received = receivedAt
	var err error
	switch provider {
	case tracking.Resend:
		i.event, err = tracking.DecodeResend(webhookID, receivedAt, i.record.Value)
	default:
		err = &tracking.DropError{Reason: tracking.NoProvider, Detail: "no header provider with a known value"}
	}
	if !errors.As(err, &i.why) && !keep {
		i.record = nil
	}
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
