package tracking_test

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
)

// A batch with thousands of events of a new email, then batches of an email that
// becomes crowded, with redeliveries from before and after.
func TestI1_CrowdedEmailCountsOnce(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	store := &tracking.Store{Pool: asConsumer(t, pool)}
	email, quiet := uuid.New(), uuid.New()
	limit := tracking.DefaultSeenLimit

	steps := []struct {
		name   string
		events []tracking.Event
		new    int
	}{
		{"up to the limit", eventsOf(email, tracking.Opened, 0, limit), limit},
		{"all of them again", eventsOf(email, tracking.Opened, 0, limit), 0},
		{"one over the limit", eventsOf(email, tracking.Opened, limit, limit+1), 1},
		{"redelivered from before it was crowded", eventsOf(email, tracking.Opened, 0, 10), 0},
		{"redelivered from after it", eventsOf(email, tracking.Opened, limit, limit+1), 0},
		{"old and new, beside a quiet email", append(eventsOf(email, tracking.Opened, 0, 3000), event(quiet, tracking.Clicked, 0)), 3000 - limit - 1 + 1},
		{"the same again", append(eventsOf(email, tracking.Opened, 0, 3000), event(quiet, tracking.Clicked, 0)), 0},
	}
	var all []tracking.Event
	for _, step := range steps {
		r := apply(t.Context(), t, store, step.events...)
		if r.Applied.Sum() != step.new || r.Duplicate.Sum() != len(step.events)-step.new {
			t.Fatalf("%s: %d applied and %d duplicate of %d, want %d applied", step.name, r.Applied.Sum(), r.Duplicate.Sum(), len(step.events), step.new)
		}
		all = append(all, step.events...)
	}
	// A new email that is crowded in its first batch.
	sudden := eventsOf(uuid.New(), tracking.Clicked, 0, 5000)
	if r := apply(t.Context(), t, store, append(sudden, sudden...)...); r.Applied.Sum() != 5000 || r.FirstClicks != 1 {
		t.Fatalf("new email with 5000 clicks: %d applied, %d first clicks", r.Applied.Sum(), r.FirstClicks)
	}
	compare(t.Context(), t, pool, append(all, sudden...))
}

// Hashes move to email_event_seen while a writer waits for the row: its statement sees
// the emptied row, but not yet where they went.
func TestI1_HashesMoveUnderAWaitingWriter(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	store := tracking.Patient(tracking.Store{Pool: asConsumer(t, pool)})
	email := uuid.New()
	events := eventsOf(email, tracking.Opened, 0, 3)
	apply(t.Context(), t, store, events...)

	mover, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer mover.Rollback(context.Background())
	move := func(sql string) {
		t.Helper()
		if _, err := mover.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	move("SELECT FROM mailtally.email FOR UPDATE")
	waiting := make(chan tracking.Result, 1)
	go func() {
		r, err := store.Apply(t.Context(), []tracking.Event{events[1]})
		if err != nil {
			t.Error(err)
		}
		waiting <- r
	}()
	waitFor(t, pool, "a writer that waits for the row",
		`SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
	move("INSERT INTO mailtally.email_event_seen SELECT id, unnest(seen) FROM mailtally.email")
	move("UPDATE mailtally.email SET seen = '{}', moved_by = pg_current_xact_id()")
	if err := mover.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := <-waiting; r.Duplicate.Sum() != 1 {
		t.Errorf("%d duplicates, want 1", r.Duplicate.Sum())
	}
	compare(t.Context(), t, pool, events)
}

// In a restored copy of a database, the transactions that moved hashes may be in the
// server's future.
func TestI1_RestoredOnAnotherServer(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	store := &tracking.Store{Pool: asConsumer(t, pool), SeenLimit: 3}
	events := eventsOf(uuid.New(), tracking.Opened, 0, 10)
	apply(t.Context(), t, store, events[:5]...)
	if _, err := pool.Exec(t.Context(), "UPDATE mailtally.email SET moved_by = '9000000000000000000'"); err != nil {
		t.Fatal(err)
	}
	var got totals
	for _, e := range events {
		got.add(apply(t.Context(), t, store, e))
	}
	if want := (totals{applied: 5, duplicate: 5}); got != want {
		t.Errorf("results add up to %+v, want %+v", got, want)
	}
	compare(t.Context(), t, pool, events)
}

// An email's row is no larger after thousands of events than it may be after 64, in
// small batches and large ones, so the ten-thousandth write costs no more than the
// tenth.
func TestI8_RowSizeIsBounded(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	store := &tracking.Store{Pool: asConsumer(t, pool)}
	email := uuid.New()
	measure := func() (bytes, remembered int) {
		t.Helper()
		err := pool.QueryRow(t.Context(), "SELECT pg_column_size(e.*), cardinality(seen) FROM mailtally.email e WHERE id = $1", email).Scan(&bytes, &remembered)
		if err != nil {
			t.Fatal(err)
		}
		return bytes, remembered
	}
	apply(t.Context(), t, store, eventsOf(email, tracking.Clicked, 0, tracking.DefaultSeenLimit)...)
	bound, _ := measure()
	bound += 8 // moved_by
	for n, batch := tracking.DefaultSeenLimit, 1; n < 10_000; n, batch = n+batch, batch*2 {
		apply(t.Context(), t, store, eventsOf(email, tracking.Clicked, n, n+batch)...)
		if bytes, remembered := measure(); bytes > bound || remembered > tracking.DefaultSeenLimit {
			t.Fatalf("after %d events the row has %d bytes, %d hashes in it; %d events need %d bytes", n+batch, bytes, remembered, tracking.DefaultSeenLimit, bound)
		}
	}
}

// Dropping history loses no count and no dedupe.
func TestI8_HistoryCanBeDropped(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	store := &tracking.Store{Pool: asConsumer(t, pool), SeenLimit: 3}
	quiet, crowded := uuid.New(), uuid.New()
	events := append(eventsOf(quiet, tracking.Clicked, 0, 2), eventsOf(crowded, tracking.Clicked, 0, 9)...)
	apply(t.Context(), t, store, events...)
	if _, err := pool.Exec(t.Context(), "TRUNCATE mailtally.email_event"); err != nil {
		t.Fatal(err)
	}
	if r := apply(t.Context(), t, store, events...); r.Applied.Sum() != 0 {
		t.Errorf("%d events were counted again", r.Applied.Sum())
	}
	rows := stored(t.Context(), t, pool)
	if rows[quiet].ClickCount != 2 || rows[crowded].ClickCount != 9 {
		t.Errorf("click counts are %d and %d, want 2 and 9", rows[quiet].ClickCount, rows[crowded].ClickCount)
	}
}
