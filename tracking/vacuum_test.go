package tracking_test

import (
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/internal/testpg"
	"github.com/mailtally/mailtally/tracking"
)

// A role without any rights sees what holds back vacuum, of whatever kind, and sees that
// it no longer does.
func TestVacuumHorizon(t *testing.T) {
	t.Parallel()
	pg := testpg.Server(t, map[string]string{"max_prepared_transactions": "1", "autovacuum": "off"})
	admin := connect(t, pg.URL("postgres"))
	exec := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("CREATE DATABASE other")
	exec("CREATE ROLE weak LOGIN PASSWORD 'weak'")
	exec("CREATE TABLE x AS SELECT 1 AS a")
	other := connect(t, pg.URL("other"))
	u, err := url.Parse(pg.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("weak", "weak")
	weak := connect(t, u.String())

	begin := func(pool *pgxpool.Pool, sql string) (end func()) {
		t.Helper()
		tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		if err == nil {
			_, err = tx.Exec(t.Context(), sql)
		}
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return func() {
			if err := tx.Rollback(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	for name, test := range map[string]struct {
		hold  func() (end func())
		holds bool
	}{
		"nobody":                            {func() func() { return func() {} }, false},
		"a reader":                          {func() func() { return begin(admin, "SELECT count(*) FROM x") }, true},
		"a writer in another database":      {func() func() { return begin(other, "CREATE TABLE y ()") }, true},
		"only a reader in another database": {func() func() { return begin(other, "SELECT 1") }, false},
		"a prepared transaction": {func() func() {
			exec("BEGIN; INSERT INTO x VALUES (0); PREPARE TRANSACTION 'forgotten'")
			return func() { exec("ROLLBACK PREPARED 'forgotten'") }
		}, true},
	} {
		holds := func(since int64) bool {
			t.Helper()
			oldest, _, err := tracking.VacuumHorizon(t.Context(), weak)
			if err != nil {
				t.Fatal(err)
			}
			return oldest < since
		}
		end := test.hold()
		exec("INSERT INTO x VALUES (1)")
		_, since, err := tracking.VacuumHorizon(t.Context(), weak)
		if err != nil {
			t.Fatal(err)
		}
		if got := holds(since); got != test.holds {
			t.Errorf("%s: holds back vacuum: %v, want %v", name, got, test.holds)
		}
		end()
		if holds(since) {
			t.Errorf("%s: still holds back vacuum when ended", name)
		}
	}
}
