package consumer_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/consumer"
	"github.com/mailtally/mailtally/tracking"
)

// overlapping makes batches of a size that is split among several writers.
func overlapping(o *consumer.Options) {
	o.MaxBatch = 2_500
	o.Writers = 3
}

// backlog produces n webhooks, two events per email.
func (s *system) backlog(n int) []*kgo.Record {
	s.t.Helper()
	records := make([]*kgo.Record, n)
	var email uuid.UUID
	for i := range records {
		typ := tracking.Clicked
		if i%2 == 0 {
			email, typ = uuid.New(), tracking.Opened
		}
		records[i] = webhook(email, typ, i)
	}
	s.produce(records...)
	return records
}

// With several batches in flight and writers that fail now and then, no offset is
// committed while a record before it is not in PostgreSQL, whichever writer has it.
func TestI6_CommitOrderOfOverlappingBatches(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	records := []*kgo.Record{webhook(uuid.New(), tracking.Opened, 20_000)} // a batch of its own
	s.produce(records...)
	var mu sync.Mutex
	applied := make(map[string]bool) // event ids
	violations, commits, calls := 0, 0, 0
	running, overlaps := 0, 0 // transactions in flight, and commits during one
	first, produced, second, overlap := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	s.broker.Cluster.ControlKey(int16(kmsg.OffsetCommit), func(request kmsg.Request) (kmsg.Response, error, bool) {
		s.broker.Cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		commits++
		if running > 0 {
			if overlaps++; overlaps == 1 {
				close(overlap)
			}
		}
		for _, p := range request.(*kmsg.OffsetCommitRequest).Topics[0].Partitions {
			for _, r := range records {
				if r.Partition == p.Partition && r.Offset < p.Offset && !applied[header(r, "webhook-id")] {
					violations++
				}
			}
		}
		return nil, nil, false
	})
	real := &tracking.Store{Pool: s.pool}
	m := s.start(storeFunc(func(ctx context.Context, events []tracking.Event) (tracking.Result, error) {
		mu.Lock()
		calls++
		call := calls
		running++
		mu.Unlock()
		defer func() { mu.Lock(); running--; mu.Unlock() }()
		// The second transaction stays in flight until the first one's offset is
		// committed.
		switch {
		case call == 1:
			close(first)
			<-second
		case call == 2:
			<-produced
			close(second)
			<-overlap
		case call%6 == 0:
			return tracking.Result{}, errors.New("a transient fault")
		}
		result, err := real.Apply(ctx, events)
		if err == nil {
			mu.Lock()
			for i := range events {
				applied[events[i].EventID] = true
			}
			mu.Unlock()
		}
		return result, err
	}), overlapping)
	<-first
	backlog := s.backlog(20_000)
	mu.Lock()
	records = append(records, backlog...)
	mu.Unlock()
	close(produced)
	s.committed()
	m.stop()
	mu.Lock()
	defer mu.Unlock()
	if violations > 0 || overlaps == 0 || calls < 10 {
		t.Errorf("%d commits, %d of them while others were applied, and %d batches: %d records were committed and not stored", commits, overlaps, calls, violations)
	}
	s.reconciled(m)
	if n := s.number("SELECT count(*) FROM mailtally.email_event"); n != len(records) {
		t.Errorf("%d events in the history, want %d", n, len(records))
	}
}

// Members join and leave while a backlog is consumed: each gives up its batches in
// order, so that nothing is consumed twice.
func TestConsumer_MembersJoinAndLeaveDuringABacklog(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	records := s.backlog(40_000)
	real := &tracking.Store{Pool: s.pool}
	var once sync.Once
	busy := make(chan struct{})
	first := s.start(storeFunc(func(ctx context.Context, events []tracking.Event) (tracking.Result, error) {
		result, err := real.Apply(ctx, events)
		once.Do(func() { close(busy) })
		return result, err
	}), overlapping)
	<-busy
	second := s.start(real, overlapping)
	s.joined(2)
	s.until("the second member to consume", func() bool {
		// However fast the first one is, something is left for the second.
		if s.uncommitted() < 10_000 {
			records = append(records, s.backlog(10_000)...)
		}
		return sum(t, "mailtally_events_consumed_total", second) > 0
	})
	first.stop()
	s.committed()
	second.stop()
	s.reconciled(first, second)
	if n := sum(t, "mailtally_events_duplicate_total", first, second); n != 0 {
		t.Errorf("%d events were consumed twice, though nobody was killed", n)
	}
	if n := s.number("SELECT count(*) FROM mailtally.email_event"); n != len(records) {
		t.Errorf("%d events in the history, want %d", n, len(records))
	}
}

// A transaction is bounded in bytes: webhooks of 200 KiB are applied by the dozen, not
// by the thousand.
func TestConsumer_LargeWebhooksGoInSmallTransactions(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	const size, n = 200 << 10, 200
	email := uuid.New()
	for i := range n {
		r := webhook(email, tracking.Opened, i)
		r.Value = append(r.Value, strings.Repeat(" ", size-len(r.Value))...)
		s.produce(r)
	}
	store, _, release := held(&tracking.Store{Pool: s.pool})
	var mu sync.Mutex
	most := 0
	m := s.start(storeFunc(func(ctx context.Context, events []tracking.Event) (tracking.Result, error) {
		mu.Lock()
		most = max(most, len(events))
		mu.Unlock()
		return store.Apply(ctx, events)
	}))
	s.until("all to wait for the first transaction", func() bool { return sum(t, "mailtally_events_in_flight", m) == n })
	close(release)
	s.committed()
	m.stop()
	s.reconciled(m)
	if limit := 16<<20/size + 1; most > limit || most < limit/2 {
		t.Errorf("as many as %d webhooks of 200 KiB in a transaction, want up to %d", most, limit)
	}
}
