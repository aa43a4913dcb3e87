package producer

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/internal/localkafka"
)

// newBroker starts a broker that stops with the test, with its data in dir.
func newBroker(t testing.TB, dir string, more ...kfake.Opt) *localkafka.Broker {
	t.Helper()
	broker, err := localkafka.Start(dir, nil, more...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	return broker
}

func createTopics(t testing.TB, seed string, topics ...string) {
	t.Helper()
	if len(topics) == 0 {
		topics = []string{topic, deadLetterTopic}
	}
	client := newKafkaClient(t, seed)
	defer client.Close()
	created, err := kadm.NewClient(client).CreateTopics(t.Context(), 4, 1, nil, topics...)
	if err == nil {
		err = created.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// records returns all records of a topic.
func (g *gateway) records(topic string) []*kgo.Record {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), deadline)
	defer cancel()
	client := newKafkaClient(g.t, g.broker.Addr(), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err != nil {
		g.t.Fatal(err)
	}
	var total int64
	ends.Each(func(end kadm.ListedOffset) { total += end.Offset })
	var records []*kgo.Record
	for int64(len(records)) < total {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			g.t.Fatal(err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

// wantRecords fails the test unless the two topics hold this many records.
func (g *gateway) wantRecords(events, deadLetters int) {
	g.t.Helper()
	if n := len(g.records(topic)); n != events {
		g.t.Errorf("%d records in the topic, want %d", n, events)
	}
	if n := len(g.records(deadLetterTopic)); n != deadLetters {
		g.t.Errorf("%d records in the dead-letter topic, want %d", n, deadLetters)
	}
}

func newKafkaClient(t testing.TB, seed string, more ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(seed)}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	return client
}
