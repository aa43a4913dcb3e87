package tracking_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// event is the n-th event of an email, a second after the one before.
func event(email uuid.UUID, typ tracking.Type, n int) tracking.Event {
	e := tracking.Event{EmailID: email, EventID: fmt.Sprintf("msg_%d", n), Type: typ, OccurredAt: noon.Add(time.Duration(n) * time.Second)}
	if typ == tracking.Clicked {
		e.Link = fmt.Sprintf("https://example.com/%d", n)
	}
	return e
}

func eventsOf(email uuid.UUID, typ tracking.Type, from, to int) []tracking.Event {
	var list []tracking.Event
	for n := from; n < to; n++ {
		list = append(list, event(email, typ, n))
	}
	return list
}

func TestI1_RedeliveredEventsCountOnce(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	store := &tracking.Store{Pool: asConsumer(t, pool)}
	email := uuid.New()
	events := append(eventsOf(email, tracking.Opened, 0, 3), eventsOf(email, tracking.Clicked, 3, 5)...)

	var got totals
	got.add(apply(t.Context(), t, store, append(events, events...)...)) // within a batch
	got.add(apply(t.Context(), t, store, events...))                    // in a later one
	for _, e := range events {
		got.add(apply(t.Context(), t, store, e)) // alone
	}
	got.add(apply(t.Context(), t, store, append(events, event(email, tracking.Opened, 5))...)) // among new ones

	want := totals{applied: 6, duplicate: 20, firstOpens: 1, firstClicks: 1}
	if got != want {
		t.Errorf("results add up to %+v, want %+v", got, want)
	}
	compare(t.Context(), t, pool, append(events, event(email, tracking.Opened, 5)))
}

// An event id is unique per email only: the same id for another email is another event.
func TestI1_IdentityIsEmailAndEvent(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	store := &tracking.Store{Pool: asConsumer(t, pool)}
	events := []tracking.Event{event(uuid.New(), tracking.Opened, 0), event(uuid.New(), tracking.Opened, 0)}
	if r := apply(t.Context(), t, store, events...); r.Applied.Sum() != 2 {
		t.Errorf("%d applied, want both", r.Applied.Sum())
	}
	compare(t.Context(), t, pool, events)
}

func TestI2_OrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	store := &tracking.Store{Pool: asConsumer(t, pool)}
	forwards, backwards := uuid.New(), uuid.New()
	var all []tracking.Event
	for n := range 10 {
		typ := tracking.Types()[n]
		apply(t.Context(), t, store, event(forwards, typ, n), event(forwards, tracking.Opened, 20+n))
		apply(t.Context(), t, store, event(backwards, tracking.Types()[9-n], 9-n), event(backwards, tracking.Opened, 29-n))
		all = append(all, event(forwards, typ, n), event(forwards, tracking.Opened, 20+n),
			event(backwards, tracking.Types()[9-n], 9-n), event(backwards, tracking.Opened, 29-n))
	}
	compare(t.Context(), t, pool, all)
	rows := stored(t.Context(), t, pool)
	a, b := rows[forwards], rows[backwards]
	b.ID = a.ID
	if describe(a) != describe(b) {
		t.Errorf("the same events in two orders give\n%s\n%s", describe(a), describe(b))
	}
}

// The earliest open is the first one by its own time, not by its arrival.
func TestI2_FirstOpenIsTheEarliest(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	store := &tracking.Store{Pool: asConsumer(t, pool)}
	email := uuid.New()
	for _, n := range []int{5, 9, 1, 7} {
		apply(t.Context(), t, store, event(email, tracking.Opened, n))
	}
	r := stored(t.Context(), t, pool)[email]
	if want := noon.Add(time.Second); !r.First[tracking.Opened].Equal(want) {
		t.Errorf("opened_at is %v, want %v", r.First[tracking.Opened], want)
	}
	if want := noon.Add(9 * time.Second); !r.LastOpened.Equal(want) {
		t.Errorf("last_opened_at is %v, want %v", r.LastOpened, want)
	}
}

// Many writers apply many opens of the same emails at once: each first open and click
// is reported by exactly one of them.
func TestI3_OneFirstOpenOverConcurrentWriters(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	const writers, emails = 8, 20
	ids := make([]uuid.UUID, emails)
	for i := range ids {
		ids[i] = uuid.New()
	}
	var mu sync.Mutex
	var got totals
	var all []tracking.Event
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			store := tracking.Patient(tracking.Store{Pool: asConsumer(t, pool), SeenLimit: 3})
			for round := range 3 {
				var events []tracking.Event
				for _, id := range ids {
					events = append(events, event(id, tracking.Opened, w*10+round), event(id, tracking.Clicked, 100+w*10+round))
				}
				r, err := store.Apply(t.Context(), events)
				mu.Lock()
				got.add(r)
				all = append(all, events...)
				mu.Unlock()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	if want := expected(all); got != want || want.firstOpens != emails {
		t.Errorf("results add up to %+v, want %+v", got, want)
	}
	compare(t.Context(), t, pool, all)
}

// While a writer waits for another's row, nobody holds a lock that the application
// asked for, nobody is above READ COMMITTED, and writers of other emails continue.
func TestI7_NoApplicationLocks(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	store := tracking.Patient(tracking.Store{Pool: asConsumer(t, pool)})
	email := uuid.New()
	apply(t.Context(), t, store, event(email, tracking.Sent, 0))

	holder, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Rollback(context.Background())
	if _, err := holder.Exec(t.Context(), "SELECT FROM mailtally.email WHERE id = $1 FOR UPDATE", email); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := store.Apply(t.Context(), []tracking.Event{event(email, tracking.Opened, 1)})
		waiting <- err
	}()
	waitFor(t, pool, "a writer that waits for the row",
		`SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)

	unhindered, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	apply(unhindered, t, store, event(uuid.New(), tracking.Opened, 1)) // another email's writer does not wait
	for what, sql := range map[string]string{
		"advisory locks": `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
		"predicate locks of SERIALIZABLE": `SELECT count(*) FROM pg_locks WHERE mode = 'SIReadLock'
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
		"table locks that keep writers out": `SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
	} {
		var n int
		if err := pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n != 0 {
			t.Errorf("%d %s are held", n, what)
		}
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

// waitFor polls the database for a state that gives no signal.
func waitFor(t testing.TB, pool *pgxpool.Pool, what, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for ready := false; !ready; {
		if err := pool.QueryRow(ctx, sql).Scan(&ready); err != nil {
			t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

// What an application sees of an email with clicks.
func TestEmailHistory_LinkClicks(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	email := uuid.New()
	late := event(email, tracking.Clicked, 60)
	late.IP, late.UserAgent = netip.MustParseAddr("2001:db8::1"), "Mozilla/5.0 \"quoted\""
	early := event(email, tracking.Clicked, 1)
	early.OccurredAt = early.OccurredAt.Add(163456 * time.Microsecond)
	apply(t.Context(), t, &tracking.Store{Pool: asConsumer(t, pool)}, late, early)

	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), "SET TimeZone = 'Asia/Kathmandu'"); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := conn.QueryRow(t.Context(), "SELECT link_clicks::text FROM mailtally.email_history").Scan(&got); err != nil {
		t.Fatal(err)
	}
	want := `{"clicks": [` +
		`{"link": "https://example.com/1", "ipAddress": null, "timestamp": "2026-03-01T12:00:01.163456Z", "userAgent": null}, ` +
		`{"link": "https://example.com/60", "ipAddress": "2001:db8::1", "timestamp": "2026-03-01T12:01:00.000Z", "userAgent": "Mozilla/5.0 \"quoted\""}], ` +
		`"totalClicks": 2}`
	if got != want {
		t.Errorf("link_clicks is\n%s\nwant\n%s", got, want)
	}
}
