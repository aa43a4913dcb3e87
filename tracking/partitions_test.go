package tracking_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mailtally/mailtally/internal/faults"
	"github.com/mailtally/mailtally/tracking"
)

// Months get their partitions automatically, earlier strays are moved in, and writers
// continue meanwhile.
func TestEnsurePartitions(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	member := asConsumer(t, pool)
	store := &tracking.Store{Pool: member}
	email := uuid.New()
	events := []tracking.Event{event(email, tracking.Opened, 0), event(email, tracking.Clicked, 1)}
	for i := range events {
		events[i].OccurredAt = time.Date(2040, 2, 1, 0, 0, 0, 0, time.UTC).AddDate(0, i, 0)
	}
	apply(t.Context(), t, store, events...)
	if n := count(t, pool, "email_event_default"); n != 2 {
		t.Fatalf("%d events in the default partition, want 2", n)
	}

	writer, err := pool.Begin(t.Context()) // an open transaction that has written history elsewhere
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Rollback(t.Context())
	if _, err := writer.Exec(t.Context(), `INSERT INTO mailtally.email_event (email_id, occurred_at, type, event_id)
		SELECT gen_random_uuid(), now(), 'sent', 'x'`); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	var made []string
	for range 4 {
		running.Go(func() {
			mine, err := tracking.EnsurePartitions(t.Context(), member, time.Date(2040, 1, 31, 23, 0, 0, 0, time.UTC))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			made = append(made, mine...)
		})
	}
	running.Wait()
	slices.Sort(made)
	if want := []string{"email_event_2039_12", "email_event_2040_01", "email_event_2040_02", "email_event_2040_03"}; !slices.Equal(made, want) {
		t.Errorf("they say that they made %v, want %v", made, want)
	}

	for table, want := range map[string]int{"email_event_default": 0, "email_event_2039_12": 0, "email_event_2040_01": 0, "email_event_2040_02": 1, "email_event_2040_03": 1} {
		if n := count(t, pool, table); n != want {
			t.Errorf("%d events in %s, want %d", n, table, want)
		}
	}
	compare(t.Context(), t, pool, events)
}

// Strays of any month move, also of months long before the partitions that there are; and
// it is always the newest months that come first.
func TestEnsurePartitions_OldStrays(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	member := asConsumer(t, pool)
	var events []tracking.Event
	for n := range 20 {
		e := event(uuid.New(), tracking.Clicked, n)
		e.OccurredAt = time.Date(2003, time.Month(n+1), 28, 0, 0, 0, 0, time.UTC)
		events = append(events, e)
	}
	apply(t.Context(), t, &tracking.Store{Pool: member}, events...)
	now := time.Now()
	first, err := tracking.EnsurePartitions(t.Context(), member, now)
	if err != nil {
		t.Fatal(err)
	}
	if n := count(t, pool, "email_event_default"); len(first) != 16 || n == 0 {
		t.Errorf("the first call makes %v and leaves %d strays, want 16 months and some strays", first, n)
	}
	if _, err := tracking.EnsurePartitions(t.Context(), member, now); err != nil {
		t.Fatal(err)
	}
	if n := count(t, pool, "email_event_default"); n != 0 {
		t.Errorf("%d events are left in the default partition", n)
	}
	compare(t.Context(), t, pool, events)
}

// While a month gets its partition, batches continue; and behind somebody who reads the
// history for long, it gives up, to be tried again.
func TestEnsurePartitions_HoldsUpNoBatch(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	member := asConsumer(t, pool)
	store := &tracking.Store{Pool: member}
	stray, other := event(uuid.New(), tracking.Clicked, 0), event(uuid.New(), tracking.Clicked, 1)
	stray.OccurredAt = time.Date(2003, 5, 1, 0, 0, 0, 0, time.UTC)
	other.OccurredAt = time.Now().Truncate(time.Microsecond)
	apply(t.Context(), t, store, stray)

	reader, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback(t.Context())
	if _, err := reader.Exec(t.Context(), "SELECT FROM mailtally.email_event"); err != nil {
		t.Fatal(err)
	}
	var pg *pgconn.PgError
	if made, err := tracking.EnsurePartitions(t.Context(), member, time.Now()); len(made) != 0 || !errors.As(err, &pg) || pg.Code != "55P03" {
		t.Errorf("beside a reader it makes %v and returns %v, want the error of a lock", made, err)
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}

	making, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer making.Rollback(t.Context())
	if _, err := making.Exec(t.Context(), "SELECT mailtally.make_partition($1)", stray.OccurredAt); err != nil {
		t.Fatal(err)
	}
	apply(t.Context(), t, store, other)
	if err := making.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	compare(t.Context(), t, pool, []tracking.Event{stray, other})
}

// A batch that has begun to write its history does not lose an event, or write one twice,
// when the month of one gets its partition before its turn. PostgreSQL refuses the event
// then, and the batch is tried again.
func TestI2_I4_PartitionMadeUnderABatch(t *testing.T) {
	t.Parallel()
	direct := newPool(t)
	member := asConsumer(t, direct)
	proxy := faults.NewProxy(t, direct.Config().ConnConfig.Host+fmt.Sprintf(":%d", direct.Config().ConnConfig.Port))
	stalled, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	var sent atomic.Int64 // bytes, from the statement on
	var stall sync.Once
	proxy.OnRequest(func(chunk []byte) bool {
		if sent.Load() > 200_000 {
			stall.Do(func() { close(stalled) })
			<-goOn
		}
		if sent.Load() > 0 || bytes.Contains(chunk, []byte("COPY mailtally.email_event")) {
			sent.Add(int64(len(chunk)))
		}
		return true
	})
	// Half a megabyte, so that PostgreSQL is at work on it, and the stray at its end.
	events := eventsOf(uuid.New(), tracking.Clicked, 0, 5000)
	for i := range events {
		events[i].OccurredAt = time.Now().Truncate(time.Microsecond)
	}
	stray := event(uuid.New(), tracking.Opened, 5000)
	stray.OccurredAt = time.Date(2003, 5, 1, 0, 0, 0, 0, time.UTC)
	before := event(uuid.New(), tracking.Opened, 5001)
	before.OccurredAt = stray.OccurredAt
	events = append(events, stray)
	store := &tracking.Store{Pool: connect(t, through(t, member, proxy))}
	apply(t.Context(), t, &tracking.Store{Pool: member}, before)

	result := make(chan error, 1)
	go func() {
		_, err := store.Apply(context.Background(), events)
		result <- err
	}()
	<-stalled
	waitFor(t, direct, "the batch to stand in COPY",
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'ClientRead' AND datname = current_database()")
	if _, err := tracking.EnsurePartitions(t.Context(), member, time.Now()); err != nil {
		t.Fatal(err)
	}
	release()
	err := <-result
	var refused *tracking.RefusedError
	if err == nil || errors.As(err, &refused) {
		t.Errorf("the batch gives %v, want an error that may pass", err)
	}
	if r := apply(t.Context(), t, store, events...); r.Applied.Sum() != len(events) {
		t.Errorf("tried again, %d events are applied, want %d", r.Applied.Sum(), len(events))
	}
	compare(t.Context(), t, direct, append(events, before))
	if n := count(t, direct, "email_event_2003_05"); n != 2 {
		t.Errorf("%d events in the strays' month, want 2", n)
	}
}

// Months get their partitions beside batches whose events are of just these months.
func TestI2_I4_PartitionsMadeBesideStrays(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	member := asConsumer(t, pool)
	const writers, batches = 3, 24
	var events []tracking.Event
	for n := range writers * batches * 5 {
		e := event(uuid.New(), tracking.Clicked, n)
		e.OccurredAt = time.Date(2001, time.Month(n/writers/5), 15, 0, 0, 0, 0, time.UTC)
		events = append(events, e)
	}
	var writing, making sync.WaitGroup
	written, stop := context.WithCancel(t.Context())
	making.Go(func() {
		for written.Err() == nil {
			var pg *pgconn.PgError
			_, err := tracking.EnsurePartitions(t.Context(), member, time.Now())
			if err != nil && !(errors.As(err, &pg) && pg.Code == "55P03") { // behind a batch for too long
				t.Error(err)
			}
		}
	})
	for w := range writers {
		writing.Go(func() {
			store := tracking.Patient(tracking.Store{Pool: member})
			for b := range batches {
				batch := events[(b*writers+w)*5:][:5]
				_, err := store.Apply(t.Context(), batch)
				var pg *pgconn.PgError
				for errors.As(err, &pg) && pg.Code == "23514" { // the month has just got its partition
					_, err = store.Apply(t.Context(), batch)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	stop()
	making.Wait()
	if _, err := tracking.EnsurePartitions(t.Context(), member, time.Now()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, pool, "email_event_default"); n > 8*writers*5 {
		t.Errorf("%d of %d events are left in the default partition", n, len(events))
	}
	compare(t.Context(), t, pool, events)
}
