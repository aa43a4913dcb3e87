package tracking_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/internal/testpg"
	"github.com/mailtally/mailtally/tracking"
)

// A migration that has to wait ends, and names who holds it up: another one at work, a
// connection that was lost in the middle of one, somebody who reads a table.
func TestUpgrade_NamesWhoHoldsTheLock(t *testing.T) {
	t.Parallel()
	server := testpg.Server(t, map[string]string{"max_prepared_transactions": "2"})
	const readsHistory = "SELECT FROM mailtally.email_event"
	for name, test := range map[string]struct {
		version int64
		hold    []string
		end     string
		want    string // after the process's id
	}{
		"a lock that was left behind": {0, []string{"SELECT pg_advisory_lock(x'6d61696c74616c6c'::bigint)"},
			"SELECT pg_advisory_unlock_all()", `(application "pooler", role mailtally, idle since 20`},
		"the same, once there is nothing to do": {tracking.NeededVersion(), []string{"SELECT pg_advisory_lock(x'6d61696c74616c6c'::bigint)"},
			"SELECT pg_advisory_unlock_all()", `(application "pooler", role mailtally, idle since 20`},
		"another that is at work": {0, []string{"BEGIN", "SELECT pg_advisory_xact_lock(x'6d61696c74616c6c'::bigint)"},
			"ROLLBACK", `(application "pooler", role mailtally, idle in transaction since 20`},
		"a reader of a table": {3, []string{"BEGIN", readsHistory},
			"ROLLBACK", `(application "pooler", role mailtally, idle in transaction since 20`},
		"a prepared transaction": {3, []string{"BEGIN", readsHistory, "PREPARE TRANSACTION 'x'"},
			"ROLLBACK PREPARED 'x'", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			admin, err := pgx.Connect(t.Context(), server.URL("postgres"))
			if err != nil {
				t.Fatal(err)
			}
			defer admin.Close(t.Context())
			database := strings.ReplaceAll(name, " ", "_")
			if _, err := admin.Exec(t.Context(), fmt.Sprintf("CREATE DATABASE %q", database)); err != nil {
				t.Fatal(err)
			}
			config, err := pgxpool.ParseConfig(server.URL(database))
			if err != nil {
				t.Fatal(err)
			}
			config.MaxConns = 1 // to ask takes no second one
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			if err := tracking.MigrateTo(t.Context(), pool, test.version); err != nil {
				t.Fatal(err)
			}
			holder, err := pgx.Connect(t.Context(), server.URL(database)+"&application_name=pooler")
			if err != nil {
				t.Fatal(err)
			}
			defer holder.Close(t.Context())
			for _, sql := range test.hold {
				if _, err := holder.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}

			err = tracking.Upgrade(t.Context(), pool, time.Millisecond)
			want := fmt.Sprintf("PostgreSQL process %d holds the lock %s", holder.PgConn().PID(), test.want)
			if test.want == "" {
				want = "a prepared transaction holds the lock"
			}
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || pg.Code != "55P03" || !strings.Contains(err.Error(), want) {
				t.Errorf("the error is %v, want %q in it", err, want)
			}

			if _, err := holder.Exec(t.Context(), test.end); err != nil {
				t.Fatal(err)
			}
			if err := tracking.Upgrade(t.Context(), pool, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

// A proxy that pools transactions unlocks another connection than it has locked.
func TestUpgrade_LockLeftBehind(t *testing.T) {
	t.Parallel()
	if err := tracking.UnlockMigrations(t.Context(), newPool(t)); err == nil || !strings.Contains(err.Error(), "direct connection") {
		t.Errorf("the error is %v, want to be told of the direct connection", err)
	}
}
