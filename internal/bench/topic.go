package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

const deadLetterTopic = "dead-letter"

// kafkaText is what package apachekafka runs.
const kafkaText = "Apache Kafka with one broker and one replica unless it says otherwise, so that acks=all is the acknowledgement of one; a heap of 512 MB, the serial collector, 2 network and 4 I/O threads; writes without fsync, as Kafka's are by default; group.initial.rebalance.delay.ms=0."

// topic is one that holds the webhooks of events, as the producer writes them.
type topic struct {
	name   string
	events []tracking.Event
	// What is in each partition: indexes in events, by offset.
	partitions [][]int32
}

// producedRecord is the record that the producer makes of a webhook that it
// received at some time.
func producedRecord(topic string, e *tracking.Event, received time.Time) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: []byte(e.EmailID.String()), Value: resendBody(e), Headers: []kgo.RecordHeader{
		{Key: "provider", Value: []byte(tracking.Resend)},
		{Key: "webhook-id", Value: []byte(e.EventID)},
		{Key: "webhook-timestamp", Value: fmt.Append(nil, received.Unix())},
		{Key: "received-at", Value: received.UTC().AppendFormat(nil, time.RFC3339Nano)},
	}}
}

// createTopics makes an empty topic, and the one for dead letters that every
// mailtally wants to see, which may be there already.
func createTopics(ctx context.Context, client *kgo.Client, partitions int, name, deadLetter string) error {
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(ctx, int32(partitions), -1, nil, name); err != nil {
		return fmt.Errorf("create topic %q: %w", name, err)
	}
	if _, err := admin.CreateTopic(ctx, 1, -1, nil, deadLetter); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %q: %w", deadLetter, err)
	}
	return nil
}

// kafkaEnv has a mailtally use these topics.
func kafkaEnv(k *kafka, topic, deadLetter string) []string {
	return []string{
		"KAFKA_BROKERS=" + strings.Join(k.Addrs(), ","), "KAFKA_TOPIC=" + topic, "KAFKA_DEAD_LETTER_TOPIC=" + deadLetter,
		"LOG_FORMAT=text",
	}
}

// fill makes a topic and has it hold the webhooks of events.
func fill(ctx context.Context, client *kgo.Client, name string, partitions int, events []tracking.Event) (*topic, error) {
	t := &topic{name: name, events: events, partitions: make([][]int32, partitions)}
	if err := createTopics(ctx, client, partitions, name, deadLetterTopic); err != nil {
		return nil, err
	}
	return t, t.produce(ctx, client, 0)
}

// produce writes the topic's webhooks, partitioned by key and compressed as the
// producer does it. They come at a rate, as received now; or all at once if that
// is 0, as received when they should. All at once they come faster than any
// gateway takes them in, and wait for each other as long as kgo has them by
// default, the producer's for a millisecond: its batches are smaller.
func (t *topic) produce(ctx context.Context, client *kgo.Client, perSecond int) error {
	at := make([]struct {
		partition int32
		offset    int64
	}, len(t.events))
	var once sync.Once
	var failure error
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := range t.events {
		received := t.events[i].OccurredAt.Add(time.Second)
		if perSecond > 0 {
			for due := start.Add(time.Duration(i) * time.Second / time.Duration(perSecond)); time.Now().Before(due); {
				select {
				case <-tick.C:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			received = time.Now()
		}
		client.Produce(ctx, producedRecord(t.name, &t.events[i], received), func(r *kgo.Record, err error) {
			if err != nil {
				once.Do(func() { failure = err })
			}
			at[i].partition, at[i].offset = r.Partition, r.Offset
		})
	}
	err := client.Flush(ctx)
	if err == nil {
		err = failure
	}
	if err != nil {
		return fmt.Errorf("fill topic %q: %w", t.name, err)
	}
	for i, a := range at {
		if next := int64(len(t.partitions[a.partition])); next != a.offset {
			return fmt.Errorf("fill topic %q: a record of partition %d is at %d, want %d", t.name, a.partition, a.offset, next)
		}
		t.partitions[a.partition] = append(t.partitions[a.partition], int32(i))
	}
	return nil
}

// offsets are those that a group has committed, by partition.
type offsets []int64

func (o offsets) sum() (n int64) {
	for _, at := range o {
		n += at
	}
	return n
}

// committed asks for a group's offsets in t.
func (t *topic) committed(ctx context.Context, admin *kadm.Client, group string) (offsets, error) {
	all, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("fetch the offsets of group %q: %w", group, err)
	}
	o := make(offsets, len(t.partitions))
	for p := range o {
		if at, ok := all.Lookup(t.name, int32(p)); ok {
			o[p] = max(0, at.At) // -1: none yet
		}
	}
	return o, nil
}
