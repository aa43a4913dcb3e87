package producer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// store returns nil once Kafka has the records of a request. One that is too large for
// its topic becomes a dead letter, since it would be too large tomorrow, too; c is changed
// accordingly. If it is too large even for the dead-letter topic, the error is
// [kerr.MessageTooLarge]: it is not cut, as a consumer's letter is, since there would be no
// whole one anywhere.
func (p *Producer) store(c *content) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), p.publishTimeout)
	defer cancel()
	refused, err := p.publish(ctx, c.records)
	for _, i := range refused {
		if err == nil {
			err = p.storeAlone(ctx, c, i)
		}
	}
	if err == nil {
		p.metrics.publish.Observe(time.Since(start).Seconds())
	}
	return err
}

// storeAlone stores a record that Kafka has refused because its batch was too large.
func (p *Producer) storeAlone(ctx context.Context, c *content, i int) error {
	err := p.publishAlone(ctx, c.records[i])
	if !errors.Is(err, kerr.MessageTooLarge) || c.reasons[i] != "" {
		return err
	}
	r := c.records[i]
	letter := tracking.ReadRecord(r.Key, r.Value, r.Headers)
	letter.DeadLetter = &tracking.DeadLetter{Reason: tracking.TooLarge,
		Detail: fmt.Sprintf("topic %q refuses it: raise its max.message.bytes, then replay this letter", p.topic)}
	c.records[i], c.reasons[i] = kafkaRecord(p.deadLetterTopic, &letter), tracking.TooLarge
	return p.publishAlone(ctx, c.records[i])
}

// publishAlone writes a record in a batch of its own, and waits for its turn to do so.
// Kafka refuses a batch as a whole, and does not say which record is too large; the other
// client would put the record into a batch with those of other requests again.
func (p *Producer) publishAlone(ctx context.Context, r *kgo.Record) error {
	var err error
	select {
	case p.turn <- struct{}{}:
		err = p.alone.ProduceSync(ctx, r).FirstErr()
		<-p.turn
	case <-ctx.Done():
		err = ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errNotAcknowledged
	}
	return p.failed(p.alone, r.Topic, err)
}
