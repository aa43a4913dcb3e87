package tracking

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationKey is the advisory lock for schema changes: "mailtall" in ASCII. It is a
// session lock, so migrations need a direct connection to PostgreSQL or a session-pooling
// proxy. The tally takes no such lock.
const migrationKey int64 = 0x6d61696c74616c6c

// Migrate creates or upgrades the schema mailtally, and creates the partitions for the
// months around now. Any number of processes may call it at once: one does the work, the
// others wait for it. A schema newer than this program is left alone.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	if err := migrateTo(ctx, pool, goose.MaxVersion); err != nil {
		return fmt.Errorf("tracking: migrate: %w", err)
	}
	_, err := EnsurePartitions(ctx, pool, time.Now())
	return err
}

// SchemaVersion returns the number of the newest migration applied to the database.
func SchemaVersion(ctx context.Context, pool *pgxpool.Pool) (version int64, err error) {
	err = pool.QueryRow(ctx, "SELECT max(version_id) FROM mailtally.schema_version WHERE is_applied", pgx.QueryExecModeExec).Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("tracking: get the schema version: %w", err)
	}
	return version, nil
}

// Ready returns nil while the database answers and has the schema that this program
// needs, or a newer one.
func Ready(ctx context.Context, pool *pgxpool.Pool) error {
	version, err := SchemaVersion(ctx, pool)
	switch {
	case err != nil && RetryReason(err) == RetrySchema:
		return fmt.Errorf("%w (mailtally migrate creates the schema)", err)
	case err != nil:
		return err
	case version < neededVersion():
		return fmt.Errorf("the schema has version %d, this program needs %d (mailtally migrate upgrades it)", version, neededVersion())
	}
	return nil
}

// neededVersion is the number of the newest migration: they are numbered from 1.
func neededVersion() int64 {
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		panic(err) // cannot happen: they are embedded
	}
	return int64(len(files))
}

func migrateTo(ctx context.Context, pool *pgxpool.Pool, version int64) error {
	if err := createSchema(ctx, pool); err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName("mailtally.schema_version"),
		goose.WithSessionLocker(migrationLock{}),
		goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = provider.UpTo(ctx, version)
	return err
}

// createSchema creates the schema that holds goose's own table. The lock is needed:
// CREATE SCHEMA IF NOT EXISTS fails when two run it at once.
func createSchema(ctx context.Context, pool *pgxpool.Pool) error {
	var version int
	var encoding string
	err := pool.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')").Scan(&version, &encoding)
	switch {
	case err != nil:
		return fmt.Errorf("get the PostgreSQL version: %w", err)
	case version < 140000:
		return fmt.Errorf("PostgreSQL is version %d; mailtally needs 14 or newer", version/10000)
	case encoding != "UTF8":
		return fmt.Errorf("the database's encoding is %s, which cannot store every link unchanged; create one with ENCODING 'UTF8'", encoding)
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", migrationKey); err != nil {
			return fmt.Errorf("wait for other migrations: %w", err)
		}
		if _, err := tx.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS mailtally"); err != nil {
			return fmt.Errorf("create schema mailtally: %w", err)
		}
		return nil
	})
}

// migrationLock lets one process at a time migrate. goose's own locker polls; this one
// blocks until its turn.
type migrationLock struct{}

func (migrationLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", migrationKey)
	return err
}

func (migrationLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", migrationKey)
	return err
}
