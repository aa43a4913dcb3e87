package tracking_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

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

// A member is not ready where row level security could hide rows from it, and says which
// table it is on.
func TestReady_RowLevelSecurity(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	member := asConsumer(t, pool)
	if err := tracking.Ready(t.Context(), member); err != nil {
		t.Error(err)
	}
	for _, table := range []string{"email", "email_event_seen", "email_event"} {
		exec(t, pool, "ALTER TABLE mailtally."+table+" ENABLE ROW LEVEL SECURITY")
		err := tracking.Ready(t.Context(), member)
		if err == nil || !strings.Contains(err.Error(), "row level security is on for mailtally."+table+" and applies to role test_mailtally_consumer") {
			t.Errorf("with row level security on %s: %v", table, err)
		}
		if err := tracking.Ready(t.Context(), pool); err != nil { // it does not apply to the owner
			t.Error(err)
		}
		exec(t, pool, "ALTER TABLE mailtally."+table+" DISABLE ROW LEVEL SECURITY")
	}
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
