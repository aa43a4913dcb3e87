package tracking_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/internal/testpg"
	"github.com/mailtally/mailtally/tracking"
)

func TestMain(m *testing.M) { os.Exit(testpg.Run(m)) }

// newPool gives the test a database of its own with the schema in it, as its owner.
func newPool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return connect(t, testpg.New(t, "mailtally", func(ctx context.Context, url string) error {
		pool, err := pgxpool.New(ctx, url)
		if err != nil {
			return err
		}
		defer pool.Close()
		if err := tracking.Migrate(ctx, pool); err != nil {
			return err
		}
		return testpg.Grant(ctx, url)
	}))
}

// asConsumer connects to a database of newPool with a consumer's rights and no others.
func asConsumer(t testing.TB, owner *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	return connect(t, testpg.As(testpg.Consumer, owner.Config().ConnString()))
}

func connect(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 10
	config.ConnConfig.OnNotice = tracking.NoteWarning
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}
