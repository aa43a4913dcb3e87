package consumer

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// item is a record and its meaning: an event, or the reason it cannot be counted.
type item struct {
	partition, epoch int32
	offset           int64
	record           *kgo.Record // a copy, if it must be kept
	bytes            int         // size of the record, kept or not
	event            tracking.Event
	why              *tracking.DropError // nil for an event
	received         time.Time
	done             bool // PostgreSQL has committed it, or Kafka acknowledged its dead letter; a control record is done from the start

	suspect bool  // it is of a partition that did not get on when last tried
	fault   error // why PostgreSQL does not accept it, which holds up its partition
}

// newItem decodes a record, with travelled as scratch space. Unless keep is set, the
// record of an event is not kept: it is several times the size of the event.
func (c *Consumer) newItem(r *kgo.Record, travelled *tracking.Record, keep bool) item {
	if r.Attrs.IsControl() { // only its offset matters
		return item{partition: r.Partition, epoch: r.LeaderEpoch, offset: r.Offset, done: true}
	}
	i := item{partition: r.Partition, epoch: r.LeaderEpoch, offset: r.Offset, bytes: size(r)}
	*travelled = tracking.ReadRecord(r.Key, r.Value, r.Headers)
	// If nothing says when the webhook was received, fall back to the record's timestamp.
	i.received = travelled.ReceivedAt
	if i.received.IsZero() {
		i.received = r.Timestamp
	}
	var err error
	if p := c.providers[travelled.Provider]; p != nil {
		i.event, err = p.Decode(travelled, i.received)
	} else {
		err = &tracking.DropError{Reason: tracking.NoProvider, Detail: "no header names a known provider"}
	}
	if err != nil && !errors.As(err, &i.why) { // no provider should, but no error is an event
		i.why = &tracking.DropError{Reason: tracking.NotJSON, Detail: err.Error()}
	}
	i.event.ShortenID()
	if i.why != nil || keep {
		i.record = detach(r)
	}
	return i
}

// detach copies what a dead letter needs of a record, which shares its memory with all
// others of its batch.
func detach(r *kgo.Record) *kgo.Record {
	own := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)}
	own.Headers = slices.Clone(r.Headers)
	for n := range own.Headers {
		own.Headers[n].Value = bytes.Clone(own.Headers[n].Value)
	}
	return own
}

// size is how many bytes a record holds, headers and key included.
func size(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value) + headerOverhead
	}
	return n
}

// Memory overhead of an item, a record and a header, beside their bytes.
const (
	itemOverhead   = 400
	recordOverhead = 400
	headerOverhead = 40
)

// held is roughly how many bytes of memory the item takes.
func (i *item) held() int {
	e := &i.event
	n := itemOverhead + len(e.EventID) + len(e.ProviderEmailID) + len(e.Link) + len(e.UserAgent) + len(e.Reason) + len(e.Message)
	if i.record != nil {
		n += recordOverhead + i.bytes
	}
	return n
}

// typ is the event's type; 0 if it was dropped before the type was known.
func (i *item) typ() tracking.Type {
	if i.why != nil {
		return i.why.Type
	}
	return i.event.Type
}

// before tells whether i precedes j in their partition. After an unclean leader election,
// offsets restart lower, in a later epoch.
func (i *item) before(j *item) bool {
	return cmp.Or(cmp.Compare(i.epoch, j.epoch), cmp.Compare(i.offset, j.offset)) < 0
}
