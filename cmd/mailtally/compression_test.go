package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What the producer and the consumer write is compressed as the setting says, or not at
// all: there are brokers that accept gzip alone.
func TestCompression(t *testing.T) {
	t.Parallel()
	environ := migrated(t)
	names := map[uint8]string{0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
	for _, codec := range []string{"", "none", "gzip", "snappy", "lz4", "zstd"} {
		want := codec
		if codec == "" {
			want = "snappy"
		}
		environ := with(environ, "KAFKA_COMPRESSION", codec, "KAFKA_TOPIC", "events-"+codec, "KAFKA_DEAD_LETTER_TOPIC", "letters-"+codec, "KAFKA_PARTITIONS", "1", "KAFKA_GROUP", "group-"+codec)
		if p := start(t, environ, "migrate"); p.wait() != 0 {
			t.Fatal(p.stderr)
		}
		producer, consumer := start(t, environ, "producer"), start(t, environ, "consumer")
		public, _ := producer.addresses()
		email := uuid.New()
		// An event that consumers drop for its time.
		body := bytes.Replace(opened(email), []byte(`{"type"`), []byte(`{"filler":"`+strings.Repeat("x", 10_000)+`","type"`), 1)
		body = append(body[:bytes.Index(body, []byte(`"created_at"`))], fmt.Sprintf(`"created_at":"no time","data":{"email_id":%q}}`, email)...)
		if status := post(t, public, testSecret, email.String(), body); status != http.StatusOK {
			t.Fatalf("status %d: %s", status, producer.stderr)
		}
		for _, topic := range []string{environ["KAFKA_TOPIC"], environ["KAFKA_DEAD_LETTER_TOPIC"]} {
			client, err := kgo.NewClient(kgo.SeedBrokers(environ["KAFKA_BROKERS"]), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			if err != nil {
				t.Fatal(err)
			}
			_, ctx := ask(t, environ["KAFKA_BROKERS"])
			record := client.PollRecords(ctx, 1).Records()
			client.Close()
			if len(record) != 1 {
				t.Fatalf("%q: nothing in %s: %s", codec, topic, consumer.stderr)
			}
			if got := names[record[0].Attrs.CompressionType()]; got != want {
				t.Errorf("%q: %s is compressed with %s", codec, topic, got)
			}
		}
		producer.endsWell()
		consumer.endsWell()
	}
	if _, err := loadConfig(with(complete, "KAFKA_COMPRESSION", "bzip2"), 0); err == nil || !strings.Contains(err.Error(), "KAFKA_COMPRESSION: want none, gzip, snappy, lz4 or zstd") {
		t.Error(err)
	}
}
