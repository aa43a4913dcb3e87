package baseline_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/internal/baseline"
	"github.com/mailtally/mailtally/internal/localpg"
	"github.com/mailtally/mailtally/internal/testpg"
	"github.com/mailtally/mailtally/tracking"
)

// durable is a server of a size that is worth measuring, which loses nothing
// when the machine dies.
var durable = map[string]string{
	"fsync":              "on",
	"full_page_writes":   "on",
	"synchronous_commit": "on",
	"shared_buffers":     "2GB",
	"max_wal_size":       "8GB",
	"min_wal_size":       "2GB", // segments are used again, as on a server that has run for a while
}

// BenchmarkApply measures the four ways beside mailtally's on one durable
// PostgreSQL. An iteration is an event, repeats included:
//
//	go test ./internal/baseline -run '^$' -bench 'Apply/way' -benchtime 100000x
//	go test ./internal/baseline -run '^$' -bench 'Apply/ours' -benchtime 1000000x
//
// The four ways are called as a webhook handler would call them, by 8 writers
// with one event each. mailtally's writers have events of their own emails, as
// Kafka's keys see to, and take them in batches. Each run has new tables, and
// its result is checked: a way that loses events is not fast. What is lost by
// the one that is known to is reported.
//
// Time enough for some batches each is needed for a meaning: with the default
// -benchtime of a second, batches of 20,000 are hardly measured.
func BenchmarkApply(b *testing.B) {
	server := testpg.Server(b, durable)
	for _, way := range baseline.Ways() {
		b.Run(fmt.Sprintf("way=%s/writers=8", way.Name), func(b *testing.B) {
			benchmarkWay(b, newBenchPool(b, server), way, 8)
		})
	}
	for _, writers := range []int{1, 2, 4} {
		for _, batch := range []int{1_000, 5_000, 20_000} {
			b.Run(fmt.Sprintf("ours/batch=%d/writers=%d", batch, writers), func(b *testing.B) {
				benchmarkOurs(b, newBenchPool(b, server), batch, writers)
			})
		}
	}
}

func benchmarkWay(b *testing.B, pool *pgxpool.Pool, way baseline.Way, writers int) {
	events := stream(b.N, time.Now())
	checkpoint(b, pool)

	b.ResetTimer()
	run(b, writers, events, func(ctx context.Context, e tracking.Event) error { return way.Apply(ctx, pool, e) })
	b.StopTimer()

	reportRate(b)
	lost := tallied(events).minus(queryTallies(b, pool, `
		SELECT count(*), sum(cardinality(event_ids)), sum(open_count), sum(click_count),
		       sum(jsonb_array_length(link_clicks->'clicks'))
		  FROM baseline.email_history`))
	if way.Name == "read-modify-write" {
		b.ReportMetric(float64(lost.Events), "lost")
		return
	}
	if lost != (tallies{}) {
		b.Fatalf("%s lost %+v", way.Name, lost)
	}
}

func benchmarkOurs(b *testing.B, pool *pgxpool.Pool, batch, writers int) {
	events := stream(b.N, time.Now())
	keyed := make([][]tracking.Event, writers)
	for _, e := range events {
		w := int(e.EmailID[0]) % writers
		keyed[w] = append(keyed[w], e)
	}
	store := tracking.Store{Pool: pool}
	checkpoint(b, pool)

	b.ResetTimer()
	run(b, writers, keyed, func(ctx context.Context, events []tracking.Event) error {
		for batch := range slices.Chunk(events, batch) {
			if _, err := store.Apply(ctx, batch); err != nil {
				return err
			}
		}
		return nil
	})
	b.StopTimer()

	reportRate(b)
	if lost := tallied(events).minus(queryTallies(b, pool, `
		SELECT count(*), (SELECT count(*) FROM mailtally.email_event), sum(open_count), sum(click_count),
		       (SELECT count(*) FROM mailtally.email_event WHERE type = 'clicked')
		  FROM mailtally.email`)); lost != (tallies{}) {
		b.Fatalf("mailtally lost %+v", lost)
	}
}

func reportRate(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s") }

// newBenchPool is connected to a new database of the server, with all tables.
func newBenchPool(b *testing.B, server *localpg.Server) *pgxpool.Pool {
	b.Helper()
	admin := connect(b, server.URL("postgres"), 1)
	for _, sql := range []string{
		"DROP DATABASE IF EXISTS bench WITH (FORCE)",
		"CREATE DATABASE bench",
		// The best that the server's build offers; a server without LZ4 has pglz.
		`DO $$ BEGIN
			EXECUTE format('ALTER DATABASE bench SET wal_compression = %L',
				(SELECT CASE WHEN 'lz4' = ANY (enumvals) THEN 'lz4' ELSE 'on' END FROM pg_settings WHERE name = 'wal_compression'));
		END $$`,
	} {
		if _, err := admin.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	if err := migrate(b.Context(), server.URL("bench")); err != nil {
		b.Fatal(err)
	}
	return connect(b, server.URL("bench"), 8)
}

// checkpoint makes all runs begin alike: with nothing left to write from the
// one before.
func checkpoint(b *testing.B, pool *pgxpool.Pool) {
	b.Helper()
	if _, err := pool.Exec(b.Context(), "CHECKPOINT"); err != nil {
		b.Fatal(err)
	}
}

// tallies are sums over all emails.
type tallies struct{ Emails, Events, Opens, Clicks, ClicksStored int }

func (t tallies) minus(u tallies) tallies {
	return tallies{t.Emails - u.Emails, t.Events - u.Events, t.Opens - u.Opens, t.Clicks - u.Clicks, t.ClicksStored - u.ClicksStored}
}

// tallied is what the tallies should be.
func tallied(events []tracking.Event) (t tallies) {
	emails, known := make(map[uuid.UUID]bool), make(map[string]bool)
	for _, e := range events {
		emails[e.EmailID] = true
		if known[e.EventID] { // of the whole stream, not only of its email
			continue
		}
		known[e.EventID] = true
		t.Events++
		switch e.Type {
		case tracking.Opened:
			t.Opens++
		case tracking.Clicked:
			t.Clicks++
			t.ClicksStored++
		}
	}
	t.Emails = len(emails)
	return t
}

func queryTallies(b *testing.B, pool *pgxpool.Pool, sql string) tallies {
	b.Helper()
	rows, err := pool.Query(b.Context(), sql)
	if err != nil {
		b.Fatal(err)
	}
	t, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[tallies])
	if err != nil {
		b.Fatal(err)
	}
	return t
}
