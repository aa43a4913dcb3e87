package baseline_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/mailtally/mailtally/internal/baseline"
	"github.com/mailtally/mailtally/tracking"
)

var (
	email = uuid.MustParse("3f1c2b7e-58d0-4f3a-9c65-0d9b7a41e2aa")
	ten   = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
)

func opened(id string, at time.Time) tracking.Event {
	return tracking.Event{EmailID: email, EventID: id, Type: tracking.Opened, OccurredAt: at}
}

func clicked(id string, at time.Time) tracking.Event {
	return tracking.Event{EmailID: email, EventID: id, Type: tracking.Clicked, OccurredAt: at, Link: "https://example.com/" + id}
}

// The two events meet at the email: both writers start before either ends.
var meetings = []struct {
	name          string
	first, second tracking.Event
	lost          string // by ReadModifyWrite
}{
	{"a click is lost", clicked("terms", ten), clicked("pricing", ten.Add(time.Second)), "lost the click on https://example.com/terms"},
	{"the first open moves", opened("early", ten), opened("late", ten.Add(time.Minute)), "first opened at 10:01:00, should be 10:00:00"},
	{"a click takes an open with it", opened("open", ten), clicked("terms", ten.Add(time.Second)), "first opened at never, should be 10:00:00"},
}

func TestReadModifyWriteLosesEvents(t *testing.T) {
	for _, meeting := range meetings {
		t.Run(meeting.name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			meetBetweenReadAndWrite(t, pool, meeting.first, meeting.second)

			lost := differences(histories(t, pool, theirs), expected([]tracking.Event{meeting.first, meeting.second}))
			if !strings.Contains(strings.Join(lost, "\n"), meeting.lost) {
				t.Fatalf("read-modify-write should have %q, but has %q: is it read-modify-write still?", meeting.lost, lost)
			}
			t.Logf("as expected, read-modify-write did wrong:\n%s", strings.Join(lost, "\n"))
		})
	}
}

func TestMailtallyKeepsTheSameEvents(t *testing.T) {
	for _, meeting := range meetings {
		t.Run(meeting.name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			meetAtTheRow(t, pool, meeting.first, meeting.second)

			want := expected([]tracking.Event{sent, meeting.first, meeting.second})
			if lost := differences(histories(t, pool, ours), want); lost != nil {
				t.Fatalf("Store.Apply did wrong:\n%s", strings.Join(lost, "\n"))
			}
		})
	}
}

// meetBetweenReadAndWrite has both events read the row; then first writes it, then
// second.
func meetBetweenReadAndWrite(t *testing.T, pool *pgxpool.Pool, first, second tracking.Event) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	firstRead, secondRead, firstWritten := make(chan struct{}), make(chan struct{}), make(chan struct{})
	wait := func(c chan struct{}) {
		select {
		case <-c:
		case <-ctx.Done(): // the other one failed
		}
	}
	group.Go(func() error {
		way := baseline.ReadModifyWrite{BetweenReadAndWrite: func() { close(firstRead); wait(secondRead) }}
		if err := way.Apply(ctx, pool, first); err != nil {
			return err
		}
		close(firstWritten)
		return nil
	})
	group.Go(func() error {
		way := baseline.ReadModifyWrite{BetweenReadAndWrite: func() { close(secondRead); wait(firstRead); wait(firstWritten) }}
		return way.Apply(ctx, pool, second)
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// sent is stored before the two events meet, so that there is a row.
var sent = tracking.Event{EmailID: email, EventID: "sent", Type: tracking.Sent, OccurredAt: ten.Add(-time.Hour)}

// meetAtTheRow has both events wait for the row, which the test holds, before
// either gets it.
func meetAtTheRow(t *testing.T, pool *pgxpool.Pool, first, second tracking.Event) {
	t.Helper()
	store := tracking.Store{Pool: pool}
	if _, err := store.Apply(t.Context(), []tracking.Event{sent}); err != nil {
		t.Fatal(err)
	}
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }() // lets the writers go if the test fails
	if _, err := tx.Exec(t.Context(), "SELECT FROM mailtally.email WHERE id = $1 FOR UPDATE", email); err != nil {
		t.Fatal(err)
	}
	group, ctx := errgroup.WithContext(t.Context())
	for _, e := range []tracking.Event{first, second} {
		group.Go(func() error {
			_, err := store.Apply(ctx, []tracking.Event{e})
			return err
		})
	}
	waitForLockWaiters(ctx, t, pool, 2)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// waitForLockWaiters returns when n sessions of this database wait for a lock.
// PostgreSQL gives no signal of that, so it polls.
func waitForLockWaiters(ctx context.Context, t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	for waiting := 0; waiting < n; {
		err := pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
		                            WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting)
		if err != nil {
			t.Fatalf("%d of %d writers wait for the row: %v", waiting, n, err)
		}
	}
}
