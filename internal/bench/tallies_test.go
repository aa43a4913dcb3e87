package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// testBench has a PostgreSQL like the parts', but small.
func testBench(t *testing.T) *bench {
	t.Helper()
	dir, err := dataDir("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &bench{rounds: 1, dir: dir, log: slog.New(slog.DiscardHandler), report: &report{out: io.Discard}}
	small := map[string]string{"shared_buffers": "32MB", "max_wal_size": "256MB", "min_wal_size": "32MB", "fsync": "off"}
	if b.db, err = b.startPostgres(t.Context(), dir+"/postgres", small); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.db.stop)
	return b
}

// Each contender's sums, read from its own tables, equal the stream's.
func TestContendersAreChecked(t *testing.T) {
	b := testBench(t)
	events := stream(20_000, time.Now())
	list, rows := contenders(events[:1_000], events)
	for i := range rows {
		if err := b.contend(t.Context(), list[i], &rows[i]); err != nil {
			t.Fatalf("%s: %v", rows[i].name, err)
		}
		// The first of the usual ways loses events.
		if lost := rows[i].values["events lost"]; i > 0 && len(lost) > 0 && lost[0] != 0 {
			t.Errorf("%s lost %v events", rows[i].name, lost)
		}
	}
	if b.failed {
		t.Error("the rows of mailtally are said to be wrong")
	}
	want := tallied(events)
	if slices.Contains([]int{want.OpenedAt, want.ClickedAt, len(events) - want.Events}, 0) {
		t.Errorf("the stream has too little to check: %+v", want)
	}
}

// Rows that are changed behind its back are detected.
func TestWrongRowsAreFound(t *testing.T) {
	b := testBench(t)
	events := stream(5_000, time.Now())
	list, rows := contenders(nil, events)
	c, r := list[len(list)-1], &rows[len(rows)-1]
	for name, sql := range map[string]string{
		"an event lost":     `DELETE FROM mailtally.email_event WHERE event_id = (SELECT event_id FROM mailtally.email_event LIMIT 1)`,
		"one counted twice": `UPDATE mailtally.email SET open_count = open_count + 1 WHERE id = (SELECT id FROM mailtally.email LIMIT 1)`,
		"5 µs too early": `UPDATE mailtally.email SET clicked_at = clicked_at - interval '5 microseconds'
			WHERE id = (SELECT id FROM mailtally.email WHERE clicked_at IS NOT NULL LIMIT 1)`,
	} {
		changed := c
		changed.prepare = func(r *row, pool *pgxpool.Pool) func(ctx context.Context) error {
			write := c.prepare(r, pool)
			return func(ctx context.Context) error {
				err := write(ctx)
				if err == nil {
					_, err = pool.Exec(ctx, sql)
				}
				return err
			}
		}
		b.failed = false
		if err := b.contend(t.Context(), changed, r); err != nil {
			t.Fatal(err)
		}
		if !b.failed {
			t.Errorf("%s: nobody noticed", name)
		}
	}
}
