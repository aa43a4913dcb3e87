package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/internal/localpg"
	"github.com/mailtally/mailtally/tracking"
)

// migrated is an empty database with mailtally's tables, on a server of the
// test's own.
func migrated(t *testing.T) *pgxpool.Pool {
	t.Helper()
	// Not one of the test's own folders, which the server's user cannot enter.
	dir, err := os.MkdirTemp("", "mailtally-bench-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	server, err := localpg.Start(t.Context(), localpg.Options{Dir: dir, Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	pool, err := connect(t.Context(), server.URL("postgres"), 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := tracking.Migrate(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	return pool
}

// A benchmark's check finds the row that is missing, and the one too many.
func TestCompareFindsWrongRows(t *testing.T) {
	pool := migrated(t)
	ctx := t.Context()
	events := stream(3_000, time.Now())
	topic := &topic{name: "compare", events: events, partitions: make([][]int32, 2)}
	for i := range events {
		p := int(events[i].EmailID[0]) % len(topic.partitions)
		topic.partitions[p] = append(topic.partitions[p], int32(i))
	}
	all := offsets{int64(len(topic.partitions[0])), int64(len(topic.partitions[1]))}
	store := tracking.Store{Pool: pool}
	if _, err := store.Apply(ctx, events[:2_000]); err != nil {
		t.Fatal(err)
	}
	check := func(what string, o offsets, want string) {
		t.Helper()
		wrong, err := topic.compare(ctx, pool, o)
		if err != nil {
			t.Fatal(err)
		}
		if (wrong == "") != (want == "") || !strings.Contains(wrong, want) {
			t.Errorf("%s: %q, want %q", what, wrong, want)
		}
	}
	exec := func(sql string) {
		t.Helper()
		if tag, err := pool.Exec(ctx, sql); err != nil || tag.RowsAffected() == 0 {
			t.Fatalf("%s: %s, %v", sql, tag, err)
		}
	}
	check("rows ahead of the offsets", offsets{0, 0}, "")
	check("offsets ahead of the rows", all, "events lost")
	if _, err := store.Apply(ctx, events); err != nil {
		t.Fatal(err)
	}
	check("all", all, "")

	exec("CREATE TABLE kept AS SELECT * FROM mailtally.email_event WHERE type = 'opened' LIMIT 1")
	exec("INSERT INTO mailtally.email_event SELECT * FROM kept")
	check("a row twice", all, "0 events lost; of the others missing {Emails:0 Events:-1 ")
	exec("DELETE FROM mailtally.email_event WHERE event_id = (SELECT event_id FROM kept)")
	check("a row lost", all, "1 events lost")
	exec("INSERT INTO mailtally.email_event SELECT * FROM kept")
	check("all again", all, "")

	exec("UPDATE mailtally.email SET open_count = open_count + 1 WHERE id = (SELECT email_id FROM kept)")
	check("an open counted twice", all, "Opens:-1 ")
}
