package consumer_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/consumer"
	"github.com/mailtally/mailtally/tracking"
)

// buffered is a hook that adds up what a client has fetched ahead.
type buffered struct {
	mu        sync.Mutex
	now, peak int
}

func (b *buffered) OnFetchRecordBuffered(r *kgo.Record) { b.add(bytesOf(r)) }

func (b *buffered) OnFetchRecordUnbuffered(r *kgo.Record, _ bool) { b.add(-bytesOf(r)) }

func (b *buffered) add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now += n
	b.peak = max(b.peak, b.now)
}

func bytesOf(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// Records that compress a thousand times better than any usual ones are fetched a few at
// a time, from the first fetch on, and each is counted.
func TestUnpack_AheadIsBounded(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	client := s.zstd()
	const n = 250
	for i := range n {
		r := webhook(uuid.New(), tracking.Opened, i)
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "trace", Value: []byte(strings.Repeat("x", 1<<20))})
		client.Produce(s.ctx, r, nil)
	}
	if err := client.Flush(s.ctx); err != nil {
		t.Fatal(err)
	}
	ahead := new(buffered)
	m := s.start(&tracking.Store{Pool: s.pool}, func(o *consumer.Options) { o.Kafka = append(o.Kafka, kgo.WithHooks(ahead)) })
	s.committed()
	m.stop()
	s.reconciled(m)
	if got := sum(t, "mailtally_events_applied_total", m); got != n {
		t.Errorf("%d events applied, want %d", got, n)
	}
	if limit := 48 + 64; ahead.peak > limit<<20 {
		t.Errorf("%d MiB were fetched ahead, want at most %d: the limit, and a batch", ahead.peak>>20, limit)
	}
}
