package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/mailtally/mailtally/internal/testpg"
)

// PostgreSQL is restored from a backup, and the group's offsets are set back to before
// the backup, as the runbook says: then what came after it is applied again, and what the
// backup has is not counted again. The rows are those of a database that was never lost.
func TestI1_RestoredFromABackup(t *testing.T) {
	t.Parallel()
	environ := migrated(t)
	brokers := environ["KAFKA_BROKERS"]
	public, _ := start(t, environ, "producer").addresses()
	const webhooks = 3000
	traffic := func(seed, rate int) *process {
		return start(t, with(environ, "HTTP_ADDR", public),
			"simulate", "-seed", strconv.Itoa(seed), "-total", strconv.Itoa(webhooks), "-rate", strconv.Itoa(rate))
	}
	applied := func(m *member) int { return numbers(t, m)("mailtally_events_applied_total") }
	catchUp := func(m *member, group string) {
		t.Helper()
		m.line(m.stderr, `"partitions assigned".*"owned":12}`)
		eventually(t, func() error { return same("lag", lag(t, brokers, group), 0) })
	}

	first := join(t, environ)
	traffic(1, 0).wait()
	catchUp(first, "mailtally")
	// The backup begins, and there is no lag. It takes its copy in the midst of more.
	backup := time.Now()
	sending := traffic(2, 2000)
	reached := applied(first)
	eventually(t, func() error {
		if n := applied(first) - reached; n < 500 {
			return fmt.Errorf("%d more applied", n)
		}
		return nil
	})
	first.endsWell()
	restored := copyOf(t, environ["DATABASE_URL"])
	second := join(t, environ)
	if code := sending.wait(); code != 0 {
		t.Fatalf("simulate: %s", sending.stderr)
	}
	catchUp(second, "mailtally")
	second.endsWell()

	admin, ctx := ask(t, brokers)
	offsets, err := admin.ListOffsetsAfterMilli(ctx, backup.UnixMilli(), "email-events")
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.CommitAllOffsets(ctx, "mailtally", offsets.Offsets()); err != nil {
		t.Fatal(err)
	}
	third := join(t, with(environ, "DATABASE_URL", restored))
	catchUp(third, "mailtally")
	third.endsWell()
	for _, name := range []string{"mailtally_events_applied_total", "mailtally_events_duplicate_total"} {
		if numbers(t, third)(name) == 0 {
			t.Errorf("%s is 0: nothing was tested", name)
		}
	}

	never := with(environ, "KAFKA_GROUP", "never-lost", "DATABASE_URL", testpg.New(t, "empty", nil))
	if p := start(t, never, "migrate"); p.wait() != 0 {
		t.Fatalf("migrate: %s", p.stderr)
	}
	fourth := join(t, never)
	catchUp(fourth, "never-lost")
	fourth.endsWell()
	got, want := connect(t, restored), connect(t, never["DATABASE_URL"])
	for what, sql := range map[string]string{
		"tally":   "SELECT string_agg(e::text, E'\n' ORDER BY e.id) FROM mailtally.email_history AS e",
		"history": "SELECT string_agg(e::text, E'\n' ORDER BY e.email_id, e.event_id) FROM mailtally.email_event AS e",
	} {
		if one[string](t, got, sql) != one[string](t, want, sql) {
			t.Errorf("the %s is not that of a database that was never lost", what)
		}
	}
	if n, all := len(counted(t, got)), len(distinct(1, webhooks))+len(distinct(2, webhooks)); n != all {
		t.Errorf("%d events in the history, want %d", n, all)
	}
}

// copyOf copies a database that nobody is connected to.
func copyOf(t *testing.T, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	name := u.Path[1:]
	u.Path = "/postgres"
	pool := connect(t, u.String())
	for _, sql := range []string{
		// What the members have closed may take a moment to end.
		"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '" + name + "'",
		"CREATE DATABASE " + name + "_restored TEMPLATE " + name,
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := pool.Exec(context.Background(), "DROP DATABASE "+name+"_restored WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	u.Path = "/" + name + "_restored"
	return u.String()
}
