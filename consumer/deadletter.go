package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// deadLetter returns once Kafka has acknowledged a dead letter for each item that cannot
// be counted: the original record, why it was dropped, and where it was. What is too large
// for the topic is cut. The dead letter is written again whenever its record is consumed
// again. An error is a *letterError.
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
	if err := c.writeLetters(ctx, letters); err != nil {
		if errors.Is(err, kerr.UnknownTopicID) {
			// The topic was deleted and recreated: kgo must be told to forget the old
			// one.
			c.client.PurgeTopicsFromProducing(c.deadLetterTopic)
		}
		return &letterError{first(dead), fmt.Errorf("write %d dead letters to topic %q: %w", len(letters), c.deadLetterTopic, err)}
	}
	for _, i := range dead {
		c.window.dropped(i)
		c.log.Info("event dropped to the dead-letter topic", "group", c.group, "reason", string(i.why.Reason), "type", i.why.Type.String(),
			"topic", i.record.Topic, "partition", i.partition, "offset", i.offset)
	}
	return nil
}

// writeLetters waits for its turn: if letters of other writers shared a batch with these,
// one that is refused might not be the one that is too large.
func (c *Consumer) writeLetters(ctx context.Context, letters []*kgo.Record) error {
	select {
	case c.writing <- struct{}{}:
		defer func() { <-c.writing }()
		return c.write(ctx, letters)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write returns once Kafka has acknowledged all letters. It refuses a batch as a whole if
// that is too large, and the client does not split it. So write halves what was refused,
// until a letter is alone: that one is cut until it fits.
func (c *Consumer) write(ctx context.Context, letters []*kgo.Record) error {
	var tooLarge []*kgo.Record
	for _, r := range c.client.ProduceSync(ctx, letters...) {
		if errors.Is(r.Err, kerr.MessageTooLarge) {
			tooLarge = append(tooLarge, r.Record)
		} else if r.Err != nil {
			return r.Err
		}
	}
	switch n := len(tooLarge); n {
	case 0:
		return nil
	case 1:
		r := tooLarge[0]
		brief := tracking.ReadRecord(r.Key, r.Value, r.Headers)
		if !brief.Cut() {
			return kerr.MessageTooLarge
		}
		return c.write(ctx, []*kgo.Record{c.kafkaLetter(&brief)})
	default:
		if err := c.write(ctx, tooLarge[:n/2]); err != nil {
			return err
		}
		return c.write(ctx, tooLarge[n/2:])
	}
}

// letterError says that dead letters were not written.
type letterError struct {
	of  offsets // the first of each partition
	err error
}

func (e *letterError) Error() string { return e.err.Error() }
func (e *letterError) Unwrap() error { return e.err }

// first is the first of items in each partition.
func first(items []*item) offsets {
	firsts := make(map[int32]*item)
	for _, i := range items {
		if f := firsts[i.partition]; f == nil || i.before(f) {
			firsts[i.partition] = i
		}
	}
	of := make(offsets)
	for p, i := range firsts {
		of[p] = kgo.EpochOffset{Epoch: i.epoch, Offset: i.offset}
	}
	return of
}

// lasts tells whether Kafka has refused the letters for a reason that trying again does
// not remove.
func (e *letterError) lasts() bool {
	var refusal *kerr.Error
	return errors.As(e.err, &refusal) && (!refusal.Retriable || errors.Is(refusal, kerr.UnknownTopicOrPartition))
}

// pauseLetters pauses the partitions whose dead letters were not written.
func (c *Consumer) pauseLetters(failed []*letterError) {
	for _, e := range failed {
		for p, at := range e.of {
			wait := c.pausePartition(p).Round(time.Millisecond).String()
			if e.lasts() {
				c.log.Error("partition stuck: Kafka refuses its dead letters; they are retried until somebody changes the dead-letter topic or this member's rights; other partitions continue",
					"group", c.group, "topic", c.topic, "partition", p, "offset", at.Offset, "error", e, "retry_in", wait)
			} else {
				c.log.Warn("partition pausing: its dead letters could not be written; other partitions continue",
					"group", c.group, "topic", c.topic, "partition", p, "offset", at.Offset, "error", e, "retry_in", wait)
			}
		}
	}
}

// letter builds the dead letter of an item: the original record, why it was dropped, and
// where it was. A record that was replayed from the dead-letter topic carries only the
// latest reason.
func (c *Consumer) letter(i *item) *kgo.Record {
	letter := tracking.ReadRecord(i.record.Key, i.record.Value, i.record.Headers)
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
