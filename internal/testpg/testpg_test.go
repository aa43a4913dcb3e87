package testpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { os.Exit(Run(m)) }

// schema returns a prepare that counts its calls.
func schema(prepared *atomic.Int32) func(ctx context.Context, url string) error {
	return func(ctx context.Context, url string) error {
		prepared.Add(1)
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		// Left open on purpose: the template must be copied all the same.
		_, err = conn.Exec(ctx, "CREATE TABLE visitor (name text)")
		return err
	}
}

// connect returns a connection that stays open until the end of owner.
func connect(t, owner testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	owner.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func TestDatabaseForEachTest(t *testing.T) {
	var prepared atomic.Int32
	prepare := schema(&prepared)
	owner := t // Its connections are still there when the databases are dropped.
	t.Run("group", func(t *testing.T) {
		for i := range 8 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				conn := connect(t, owner, New(t, "visitors", prepare))
				if _, err := conn.Exec(t.Context(), "INSERT INTO visitor VALUES ('me')"); err != nil {
					t.Fatal(err)
				}
				var n int
				if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM visitor").Scan(&n); err != nil || n != 1 {
					t.Errorf("%d visitors, %v; want 1", n, err)
				}
			})
		}
	})
	if n := prepared.Load(); n != 1 {
		t.Errorf("prepared %d times, want 1", n)
	}

	// All are dropped, even though a connection was open to each.
	pg, err := shared.start()
	if err != nil {
		t.Fatal(err)
	}
	var left int
	const sql = "SELECT count(*) FROM pg_database WHERE datname LIKE 'test%'"
	if err := connect(t, t, pg.URL("postgres")).QueryRow(t.Context(), sql).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d databases are left, %v", left, err)
	}
}

func TestEmptyTemplate(t *testing.T) {
	t.Parallel()
	connect(t, t, New(t, "empty", nil))
}

func TestSettings(t *testing.T) {
	t.Parallel()
	shared := connect(t, t, New(t, "empty", nil))
	own := connect(t, t, Server(t, map[string]string{"max_connections": "7"}).URL("postgres"))
	for _, test := range []struct {
		conn       *pgx.Conn
		name, want string
	}{
		{shared, "fsync", "off"},
		{shared, "synchronous_commit", "on"},
		{shared, "max_connections", "200"},
		{own, "fsync", "on"},
		{own, "max_connections", "7"},
	} {
		var got string
		if err := test.conn.QueryRow(t.Context(), "SHOW "+test.name).Scan(&got); err != nil || got != test.want {
			t.Errorf("%s = %q, %v; want %q", test.name, got, err, test.want)
		}
	}
}

// recorder is a testing.TB that fails without ending the test that uses it.
type recorder struct {
	testing.TB
	failure string
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	panic(r)
}

func TestFailedPrepareFailsEachTest(t *testing.T) {
	t.Parallel()
	for range 2 {
		r := &recorder{TB: t}
		func() {
			defer func() {
				if recover() != any(r) {
					t.Error("New did not fail")
				}
			}()
			New(r, "broken", func(context.Context, string) error { return errors.New("no such migration") })
		}()
		if want := `testpg: make the template "broken": no such migration`; r.failure != want {
			t.Errorf("failure %q, want %q", r.failure, want)
		}
	}
}
