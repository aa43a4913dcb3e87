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

// deadLetterMaxBytes is more than Kafka's default limit for a record (1 MiB), so
// that a record fits with the headers that are added. mailtally migrate sets the
// topic's max.message.bytes to the same.
const deadLetterMaxBytes = 2 << 20

// deadLetter returns when Kafka has acknowledged a dead letter for each of
// items: the record as it was, and why and where it was dropped. It may be
// written twice, when a batch is done again.
func (c *Consumer) deadLetter(ctx context.Context, items []item) error {
	if len(items) == 0 {
		return nil
	}
	letters := make([]*kgo.Record, len(items))
	for n, i := range items {
		letters[n] = c.letter(i)
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
		return fmt.Errorf("write %d dead letters to topic %q: %w", len(letters), c.deadLetterTopic, err)
	}
	for _, i := range items {
		c.metrics.countDropped(i.why)
		c.log.Info("event dropped to the dead-letter topic", "reason", string(i.why.Reason), "type", i.why.Type.String(),
			"topic", i.record.Topic, "partition", i.record.Partition, "offset", i.record.Offset)
	}
	return nil
}

func (c *Consumer) letter(i item) *kgo.Record {
	r := i.record
	return &kgo.Record{
		Topic: c.deadLetterTopic,
		Key:   r.Key,
		Value: r.Value,
		Headers: append(slices.Clone(r.Headers),
			kgo.RecordHeader{Key: "reason", Value: []byte(i.why.Reason)},
			kgo.RecordHeader{Key: "detail", Value: []byte(i.why.Detail)},
			kgo.RecordHeader{Key: "source-topic", Value: []byte(r.Topic)},
			kgo.RecordHeader{Key: "source-partition", Value: strconv.AppendInt(nil, int64(r.Partition), 10)},
			kgo.RecordHeader{Key: "source-offset", Value: strconv.AppendInt(nil, r.Offset, 10)},
		),
	}
}
