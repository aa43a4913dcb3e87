package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// DeadLetterMaxBytes is what the dead-letter topic's max.message.bytes should be:
// Kafka's default limit for a record (1 MiB) and as much again, so that a record
// fits with the headers that are added. No larger one is sent.
const DeadLetterMaxBytes = 2 << 20

// deadLetter returns when Kafka has acknowledged a dead letter for each of items
// that cannot be counted: the record as it was, and why and where it was dropped.
// It is written again whenever its batch is done again. done is how many of items
// need nothing more: all, or those before the first dead letter if it fails.
func (c *Consumer) deadLetter(ctx context.Context, items []*item) (done int, err error) {
	first := slices.IndexFunc(items, func(i *item) bool { return i.why != nil })
	if first < 0 {
		return len(items), nil
	}
	var letters []*kgo.Record
	for _, i := range items[first:] {
		if i.why != nil {
			letters = append(letters, c.letter(i))
		}
	}
	results := c.client.ProduceSync(ctx, letters...)
	for n := range results {
		if errors.Is(results[n].Err, kerr.MessageTooLarge) {
			// The topic takes no record of that size: where it lies is said all the same.
			brief := results[n].Record
			brief.Value = nil
			brief.Headers = append(brief.Headers, kgo.RecordHeader{Key: "value-omitted", Value: []byte("larger than this topic's max.message.bytes")})
			results[n] = c.client.ProduceSync(ctx, brief)[0]
		}
	}
	if err := results.FirstErr(); err != nil {
		if errors.Is(err, kerr.UnknownTopicID) {
			// The topic was deleted and made anew: kgo has to be told to forget it.
			c.client.PurgeTopicsFromProducing(c.deadLetterTopic)
		}
		return first, fmt.Errorf("write %d dead letters to topic %q: %w", len(letters), c.deadLetterTopic, err)
	}
	for _, i := range items[first:] {
		if i.why == nil {
			continue
		}
		c.metrics.countDropped(i.why)
		c.log.Info("event dropped to the dead-letter topic", "group", c.group, "reason", string(i.why.Reason), "type", i.why.Type.String(),
			"topic", i.record.Topic, "partition", i.partition, "offset", i.offset)
	}
	return len(items), nil
}

// added are the headers of a dead letter that its record did not have; one that
// was put back from there, and is dropped again, has only the newest.
var added = []string{"reason", "detail", "source-topic", "source-partition", "source-offset", "value-omitted"}

func (c *Consumer) letter(i *item) *kgo.Record {
	r := i.record
	headers := slices.DeleteFunc(slices.Clone(r.Headers), func(h kgo.RecordHeader) bool { return slices.Contains(added, h.Key) })
	return &kgo.Record{
		Topic: c.deadLetterTopic,
		Key:   r.Key,
		Value: r.Value,
		Headers: append(headers,
			kgo.RecordHeader{Key: "reason", Value: []byte(i.why.Reason)},
			kgo.RecordHeader{Key: "detail", Value: []byte(i.why.Detail)},
			kgo.RecordHeader{Key: "source-topic", Value: []byte(r.Topic)},
			kgo.RecordHeader{Key: "source-partition", Value: strconv.AppendInt(nil, int64(r.Partition), 10)},
			kgo.RecordHeader{Key: "source-offset", Value: strconv.AppendInt(nil, r.Offset, 10)},
		),
	}
}
