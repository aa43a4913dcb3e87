package tracking_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/internal/testpg"
	"github.com/mailtally/mailtally/tracking"
)

func TestMigrate_TenProcessesAtOnce(t *testing.T) {
	t.Parallel()
	url := testpg.New(t, "empty", nil)
	var running sync.WaitGroup
	for range 10 {
		running.Go(func() {
			if err := tracking.Migrate(t.Context(), connect(t, url)); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	pool := connect(t, url)
	apply(t.Context(), t, &tracking.Store{Pool: pool}, event(uuid.New(), tracking.Opened, 0))
}

// From every earlier version, with a tally in it, to the newest.
func TestMigrate_FromEveryVersion(t *testing.T) {
	t.Parallel()
	for version := range tracking.NeededVersion() {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			pool := connect(t, testpg.New(t, "empty", nil))
			if err := tracking.MigrateTo(t.Context(), pool, version); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time changes nothing
				if err := tracking.Migrate(t.Context(), pool); err != nil {
					t.Fatal(err)
				}
			}
			apply(t.Context(), t, &tracking.Store{Pool: pool}, event(uuid.New(), tracking.Opened, 0))
		})
	}
}

// What version 1 has counted of a crowded email, whose row held no hashes, is not
// counted again.
func TestMigrate_CrowdedEmailOfVersion1(t *testing.T) {
	t.Parallel()
	pool := connect(t, testpg.New(t, "empty", nil))
	if err := tracking.MigrateTo(t.Context(), pool, 1); err != nil {
		t.Fatal(err)
	}
	email := uuid.New()
	old := event(email, tracking.Opened, 0)
	for _, sql := range []string{
		"INSERT INTO mailtally.email (id, opened_at, last_opened_at, open_count, click_count, crowded, seen) VALUES ($1, '2026-03-01T12:00Z', '2026-03-01T12:00Z', 1, 0, true, '{}')",
		// The first 64 bits of the SHA-256 of the event id: see eventHash.
		"INSERT INTO mailtally.email_event_seen SELECT $1, ('x' || left(encode(sha256('msg_0'), 'hex'), 16))::bit(64)::bigint",
		"INSERT INTO mailtally.email_event (email_id, occurred_at, type, event_id) SELECT $1, '2026-03-01T12:00Z', 'opened', 'msg_0'",
	} {
		if _, err := pool.Exec(t.Context(), sql, email); err != nil {
			t.Fatal(err)
		}
	}
	if err := tracking.Migrate(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	store := &tracking.Store{Pool: pool}
	next := event(email, tracking.Opened, 1)
	if r := apply(t.Context(), t, store, old, next); r.Applied.Sum() != 1 || r.Duplicate.Sum() != 1 || r.FirstOpens != 0 {
		t.Errorf("result %+v, want one event applied and one duplicate", r)
	}
	compare(t.Context(), t, pool, []tracking.Event{old, next})
}

// A schema made by a newer program stays as it is, and keeps working.
func TestMigrate_NewerSchema(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	if _, err := pool.Exec(t.Context(), "INSERT INTO mailtally.schema_version (version_id, is_applied) VALUES (9999, true)"); err != nil {
		t.Fatal(err)
	}
	if err := tracking.Migrate(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
}

// Months get their partitions automatically, earlier strays are moved in, and writers
// go on meanwhile.
func TestEnsurePartitions(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	store := &tracking.Store{Pool: pool}
	count := func(table string) (n int) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM mailtally."+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	email := uuid.New()
	events := []tracking.Event{event(email, tracking.Opened, 0), event(email, tracking.Clicked, 1)}
	for i := range events {
		events[i].OccurredAt = time.Date(2040, 2, 1, 0, 0, 0, 0, time.UTC).AddDate(0, i, 0)
	}
	apply(t.Context(), t, store, events...)
	if n := count("email_event_default"); n != 2 {
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
			mine, err := tracking.EnsurePartitions(t.Context(), pool, time.Date(2040, 1, 31, 23, 0, 0, 0, time.UTC))
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
		if n := count(table); n != want {
			t.Errorf("%d events in %s, want %d", n, table, want)
		}
	}
	compare(t.Context(), t, pool, events)
}

// A member is not ready on an older program's schema, on which it could apply nothing.
func TestReady(t *testing.T) {
	t.Parallel()
	pool := connect(t, testpg.New(t, "empty", nil))
	newest := tracking.NeededVersion()
	for version := int64(0); version <= newest; version++ {
		if err := tracking.MigrateTo(t.Context(), pool, version); err != nil {
			t.Fatal(err)
		}
		err := tracking.Ready(t.Context(), pool)
		if version < newest && (err == nil || !strings.Contains(err.Error(), "mailtally migrate")) {
			t.Errorf("with version %d of the schema: %v, want to be told of mailtally migrate", version, err)
		}
		if version == newest && err != nil {
			t.Error(err)
		}
		if is, err := tracking.SchemaVersion(t.Context(), pool); version > 0 && (err != nil || is != version) {
			t.Errorf("the schema's version is %d, %v, want %d", is, err, version)
		}
	}
}
