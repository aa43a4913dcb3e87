package tracking_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/internal/testpg"
	"github.com/mailtally/mailtally/tracking"
)

// Publications such as tools for change data capture make, before the first migration or
// later: migrations work, new months get their partitions, and strays move to them.
func TestMigrate_BesidePublication(t *testing.T) {
	t.Parallel()
	newest := tracking.NeededVersion()
	for _, test := range []struct {
		version     int64 // of the schema for which the publication is made
		publication string
		postgres    int // the oldest that knows it
	}{
		{0, "FOR ALL TABLES", 14},
		{1, "FOR ALL TABLES", 14},
		{3, "FOR ALL TABLES", 14},
		{newest, "FOR ALL TABLES", 14},
		{3, "FOR ALL TABLES WITH (publish_via_partition_root)", 14},
		{3, "FOR TABLE mailtally.email, mailtally.email_event_seen, mailtally.email_event", 14},
		{3, "FOR TABLES IN SCHEMA mailtally", 15},
		{3, "FOR TABLE mailtally.email_event WHERE (type = 'clicked') WITH (publish_via_partition_root)", 15},
	} {
		t.Run(fmt.Sprintf("version %d, %s", test.version, test.publication), func(t *testing.T) {
			t.Parallel()
			pool := connect(t, testpg.New(t, "empty", nil))
			if postgresVersion(t, pool) < test.postgres {
				return
			}
			if err := tracking.MigrateTo(t.Context(), pool, test.version); err != nil {
				t.Fatal(err)
			}
			if _, err := pool.Exec(t.Context(), "CREATE PUBLICATION cdc "+test.publication); err != nil {
				t.Fatal(err)
			}
			if err := tracking.Migrate(t.Context(), pool); err != nil {
				t.Fatal(err)
			}
			stray := event(uuid.New(), tracking.Clicked, 0)
			stray.OccurredAt = time.Date(2040, 2, 1, 0, 0, 0, 0, time.UTC)
			apply(t.Context(), t, &tracking.Store{Pool: pool}, stray)
			if _, err := tracking.EnsurePartitions(t.Context(), pool, stray.OccurredAt); err != nil {
				t.Fatal(err)
			}
			if n := count(t, pool, "email_event_2040_02"); n != 1 {
				t.Errorf("%d events in the stray's month, want 1", n)
			}
			compare(t.Context(), t, pool, []tracking.Event{stray})
		})
	}
}

// PostgreSQL lets nobody delete from a table of which some columns are published, whatever
// its replica identity. New months get their partitions nevertheless, strays stay and
// are counted, and the error says why.
func TestEnsurePartitions_BesidePublicationOfColumns(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	if postgresVersion(t, pool) < 15 {
		return // it has no such publications
	}
	if _, err := pool.Exec(t.Context(), "CREATE PUBLICATION cdc FOR TABLE mailtally.email_event (email_id, occurred_at, type) WITH (publish_via_partition_root)"); err != nil {
		t.Fatal(err)
	}
	stray := event(uuid.New(), tracking.Clicked, 0)
	stray.OccurredAt = time.Date(2039, 1, 15, 0, 0, 0, 0, time.UTC)
	apply(t.Context(), t, &tracking.Store{Pool: pool}, stray)
	made, err := tracking.EnsurePartitions(t.Context(), pool, time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC))
	if len(made) != 4 || err == nil || !strings.Contains(err.Error(), "2039-01") || !strings.Contains(err.Error(), "email_event_default") {
		t.Errorf("made %v, error %v; want four partitions, and an error that names the month and the table", made, err)
	}
	compare(t.Context(), t, pool, []tracking.Event{stray})
}

func postgresVersion(t testing.TB, pool *pgxpool.Pool) (major int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int / 10000").Scan(&major); err != nil {
		t.Fatal(err)
	}
	return major
}

// count is the number of rows of a table of mailtally's.
func count(t testing.TB, pool *pgxpool.Pool, table string) (n int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM mailtally."+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
