package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// DeadLetterMaxBytes is the recommended max.message.bytes of the dead-letter topic: twice
// Kafka's default record limit (1 MiB), so that a record fits together with the headers
// that are added. No larger record is sent.
const DeadLetterMaxBytes = 2 << 20

// deadLetter returns once Kafka has acknowledged a dead letter for each item that cannot
// be counted: the original record, why it was dropped, and where it was. The dead letter
// is written again whenever its record is consumed again.
func (c *Consumer) deadLetter(ctx context.Context, items []*item) error {
	var dead []*item
	var letters []*kgo.Record
	for _, i := range items {
		if i.why != nil {
			dead = append(dead, i)
			letters = append(letters, c.letter(i))
		}
	}
	if len(letters) == 0 {
		return nil
	}
	results := c.client.ProduceSync(ctx, letters...)
	for n := range results {
		if errors.Is(results[n].Err, kerr.MessageTooLarge) {
			// The topic accepts no record of that size. Write the letter without the
			// value: it still says where the record is.
			brief := readRecord(results[n].Record)
			brief.Value = nil
			brief.DeadLetter.ValueOmitted = "larger than this topic's max.message.bytes"
			results[n] = c.client.ProduceSync(ctx, c.kafkaLetter(&brief))[0]
		}
	}
	if err := results.FirstErr(); err != nil {
		if errors.Is(err, kerr.UnknownTopicID) {
			// The topic was deleted and recreated: kgo must be told to forget the old
			// one.
			c.client.PurgeTopicsFromProducing(c.deadLetterTopic)
		}
		return fmt.Errorf("write %d dead letters to topic %q: %w", len(letters), c.deadLetterTopic, err)
	}
	for _, i := range dead {
		c.window.dropped(i)
		c.log.Info("event dropped to the dead-letter topic", "group", c.group, "reason", string(i.why.Reason), "type", i.why.Type.String(),
			"topic", i.record.Topic, "partition", i.partition, "offset", i.offset)
	}
	return nil
}

// letter builds the dead letter of an item: the original record, why it was dropped, and
// where it was. A record that was replayed from the dead-letter topic carries only the
// latest reason.
func (c *Consumer) letter(i *item) *kgo.Record {
	letter := readRecord(i.record)
	letter.DeadLetter = &tracking.DeadLetter{
		Reason: i.why.Reason, Detail: i.why.Detail,
		Source: &tracking.Source{Topic: i.record.Topic, Partition: i.record.Partition, Offset: i.record.Offset},
	}
	return c.kafkaLetter(&letter)
}

func (c *Consumer) kafkaLetter(letter *tracking.Record) *kgo.Record {
	pairs := letter.Headers()
	headers := make([]kgo.RecordHeader, len(pairs))
	for i, h := range pairs {
		headers[i] = kgo.RecordHeader(h)
	}
	return &kgo.Record{Topic: c.deadLetterTopic, Key: letter.Key, Value: letter.Value, Headers: headers}
}
