package consumer

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

// deadLetterMaxBytes is more than Kafka's default limit for a record (1 MiB), so
// that a record of any topic fits with the headers that are added. mailtally
// migrate sets the topic's max.message.bytes to the same.
const deadLetterMaxBytes = 2 << 20

// deadLetter returns when Kafka has acknowledged a dead letter for each of list.
// A dead letter is the record as it was, and why and where it was dropped.
func (c *Consumer) deadLetter(ctx context.Context, list []dropped) error {
	if len(list) == 0 {
		return nil
	}
	letters := make([]*kgo.Record, len(list))
	for i, d := range list {
		letters[i] = &kgo.Record{
			Topic: c.deadLetterTopic,
			Key:   d.record.Key,
			Value: d.record.Value,
			Headers: append(slices.Clone(d.record.Headers),
				kgo.RecordHeader{Key: "reason", Value: []byte(d.why.Reason)},
				kgo.RecordHeader{Key: "detail", Value: []byte(d.why.Detail)},
				kgo.RecordHeader{Key: "source-topic", Value: []byte(d.record.Topic)},
				kgo.RecordHeader{Key: "source-partition", Value: strconv.AppendInt(nil, int64(d.record.Partition), 10)},
				kgo.RecordHeader{Key: "source-offset", Value: strconv.AppendInt(nil, d.record.Offset, 10)},
			),
		}
	}
	if err := c.client.ProduceSync(ctx, letters...).FirstErr(); err != nil {
		return fmt.Errorf("write %d dead letters to topic %q: %w", len(letters), c.deadLetterTopic, err)
	}
	for _, d := range list {
		c.metrics.dropped(d.why)
		c.log.Info("event dropped to the dead-letter topic", "reason", string(d.why.Reason), "type", d.why.Type.String(),
			"topic", d.record.Topic, "partition", d.record.Partition, "offset", d.record.Offset)
	}
	return nil
}
