package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/internal/bench/apachekafka"
	"github.com/mailtally/mailtally/tracking"
)

// kafkaText is what package apachekafka runs.
const kafkaText = "Apache Kafka with one broker and one replica, so that acks=all is the acknowledgement of one; a heap of 512 MB, the serial collector, 2 network and 4 I/O threads; writes without fsync, as Kafka's are by default; group.initial.rebalance.delay.ms=0."

// kafka is a part's own Apache Kafka.
type kafka struct {
	*apachekafka.Broker
	client *kgo.Client // which is not measured
	admin  *kadm.Client
}

// startKafka starts a broker with its data in dir. Options are the client's.
func (b *bench) startKafka(ctx context.Context, dir string, options []kgo.Opt) (*kafka, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute) // a download included
	defer cancel()
	broker, err := apachekafka.Start(ctx, dir, b.log)
	if err != nil {
		return nil, err
	}
	b.report.versions = append(b.report.versions, "Apache Kafka "+apachekafka.Version)
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(broker.Addr()))...)
	if err != nil {
		broker.Kill()
		return nil, err
	}
	return &kafka{broker, client, kadm.NewClient(client)}, nil
}

// stop kills the broker: nobody needs its data.
func (k *kafka) stop() {
	k.client.Close()
	k.Kill()
}

// partitions is what mailtally gives a topic.
const partitions = 12

// topic is one for webhooks, with one for dead letters.
type topic struct {
	kafka            *kafka
	name, deadLetter string
	// What it was filled with: the events, and their indexes by partition and offset.
	events []tracking.Event
	places [][]int32
}

// topic makes an empty one.
func (k *kafka) topic(ctx context.Context, name string, partitions int) (*topic, error) {
	t := &topic{kafka: k, name: name, deadLetter: name + ".dead-letter", places: make([][]int32, partitions)}
	for name, partitions := range map[string]int{t.name: partitions, t.deadLetter: 1} {
		if _, err := k.admin.CreateTopic(ctx, int32(partitions), -1, nil, name); err != nil {
			return nil, fmt.Errorf("create topic %q: %w", name, err)
		}
	}
	return t, nil
}

// env has a mailtally use the topic.
func (t *topic) env() []string {
	return []string{"KAFKA_BROKERS=" + t.kafka.Addr(), "KAFKA_TOPIC=" + t.name, "KAFKA_DEAD_LETTER_TOPIC=" + t.deadLetter}
}

// record is the record that mailtally's producer makes of a webhook, received soon
// after its event.
func record(topic string, e *tracking.Event, body []byte) *kgo.Record {
	received := e.OccurredAt.Add(time.Second)
	travels := tracking.Record{Provider: "resend", EventID: e.EventID, SentAt: strconv.FormatInt(received.Unix(), 10), ReceivedAt: received}
	r := &kgo.Record{Topic: topic, Key: []byte(e.EmailID.String()), Value: body}
	for _, h := range travels.Headers() {
		r.Headers = append(r.Headers, kgo.RecordHeader(h))
	}
	return r
}

// filled makes a topic that holds the webhooks of events, partitioned by key as the
// producer does. They arrive faster than any gateway takes them in, and linger for
// kgo's default. The producer lingers for only a millisecond: its batches are smaller.
func (k *kafka) filled(ctx context.Context, name string, partitions int, events []tracking.Event, body func(*tracking.Event) []byte) (*topic, error) {
	t, err := k.topic(ctx, name, partitions)
	if err != nil {
		return nil, err
	}
	t.events = events
	var failure error
	for i := range events {
		// Promises are called one at a time, in the order of offsets.
		k.client.Produce(ctx, record(name, &events[i], body(&events[i])), func(r *kgo.Record, err error) {
			if err == nil && r.Offset != int64(len(t.places[r.Partition])) {
				err = fmt.Errorf("a record of partition %d is at %d, want %d", r.Partition, r.Offset, len(t.places[r.Partition]))
			}
			if err != nil {
				failure = err
				return
			}
			t.places[r.Partition] = append(t.places[r.Partition], int32(i))
		})
	}
	if err := errors.Join(k.client.Flush(ctx), failure); err != nil {
		return nil, fmt.Errorf("fill topic %q: %w", name, err)
	}
	return t, nil
}

// committed are the offsets that a group has committed, by partition.
func (t *topic) committed(ctx context.Context, group string) ([]int64, error) {
	all, err := t.kafka.admin.FetchOffsets(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("fetch the offsets of group %q: %w", group, err)
	}
	offsets := make([]int64, len(t.places))
	for p := range offsets {
		if at, ok := all.Lookup(t.name, int32(p)); ok {
			offsets[p] = max(0, at.At) // -1: none yet
		}
	}
	return offsets, nil
}

// holds returns nil if the topic holds that many records, and the dead-letter topic
// none.
func (t *topic) holds(ctx context.Context, want int) error {
	ends, err := t.kafka.admin.ListEndOffsets(ctx, t.name, t.deadLetter)
	if err == nil {
		err = ends.Error()
	}
	got := map[string]int64{}
	ends.Each(func(o kadm.ListedOffset) { got[o.Topic] += o.Offset })
	if err == nil && (got[t.name] != int64(want) || got[t.deadLetter] > 0) {
		err = fmt.Errorf("topics hold %v records, want %d, and no dead letters", got, want)
	}
	return err
}
