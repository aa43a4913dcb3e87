package consumer

import (
	"cmp"
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

// newItem reads what a record says. The record of an event is let go, unless
// keep: it is several times as large as the event.
func newItem(r *kgo.Record, keep bool) item {
	i := item{partition: r.Partition, epoch: r.LeaderEpoch, offset: r.Offset, record: r, bytes: len(r.Value)}
	provider, webhookID, receivedAt := readHeaders(r)
	i.received = receivedAt
	var err error
	switch provider {
	case tracking.Resend:
		i.event, err = tracking.DecodeResend(webhookID, receivedAt, r.Value)
	default:
		err = &tracking.DropError{Reason: tracking.NoProvider, Detail: "no header provider with a known value"}
	}
	if !errors.As(err, &i.why) && !keep {
		i.record = nil
	}
	return i
}

// before tells whether i comes before j in their partition. After an unclean
// election of a leader offsets begin again lower, in a later epoch.
func (i *item) before(j *item) bool {
	return cmp.Or(cmp.Compare(i.epoch, j.epoch), cmp.Compare(i.offset, j.offset)) < 0
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
