package tracking

import (
	"context"
	"database/sql"
	"embed"
	"errors"
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

// Migrate creates or upgrades the schema, as [Upgrade] does and however long it has to
// wait, and creates the partitions for the months around now.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	if err := Upgrade(ctx, pool, 0); err != nil {
		return err
	}
	_, err := EnsurePartitions(ctx, pool, time.Now())
	return err
}

// Upgrade creates or upgrades the schema mailtally. Any number of processes may call it at
// once: one does the work, the others wait for it. A schema newer than this program is
// left alone.
//
// patience is how long to wait for the others, in whole milliseconds; 0 is as long as ctx
// lasts. After that, or where a table stays locked, the error names whoever holds the
// lock, and Upgrade can be called again.
func Upgrade(ctx context.Context, pool *pgxpool.Pool, patience time.Duration) error {
	err := migrateTo(ctx, pool, goose.MaxVersion, patience)
	switch {
	case lockTimedOut(err) && errors.Is(err, errOtherMigration):
		err = withHolder(ctx, pool, err, migrationKeyHolder)
	case lockTimedOut(err):
		err = withHolder(ctx, pool, err, tableHolder)
	}
	if err != nil {
		return fmt.Errorf("tracking: migrate: %w", err)
	}
	return nil
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
// needs, or a newer one, with no row level security on its tables that applies to the
// pool's role: [Store.Apply] would be refused.
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
	return noRowLevelSecurity(ctx, pool)
}

func noRowLevelSecurity(ctx context.Context, pool *pgxpool.Pool) error {
	var tables, role string
	err := pool.QueryRow(ctx, `
		SELECT coalesce(string_agg(table_name, ', '), ''), current_user
		  FROM unnest('{mailtally.email,mailtally.email_event_seen,mailtally.email_event}'::text[]) AS table_name
		 WHERE row_security_active(table_name)`, pgx.QueryExecModeExec).Scan(&tables, &role)
	switch {
	case err != nil:
		return fmt.Errorf("tracking: look for row level security: %w", err)
	case tables != "":
		return fmt.Errorf("row level security is on for %s and applies to role %s: events whose rows are hidden would count twice, so none is written. "+
			"ALTER TABLE … DISABLE ROW LEVEL SECURITY, or ALTER ROLE %s BYPASSRLS", tables, role, role)
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

func migrateTo(ctx context.Context, pool *pgxpool.Pool, version int64, patience time.Duration) error {
	if err := createSchema(ctx, pool, patience); err != nil {
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
		goose.WithSessionLocker(migrationLock{patience}),
		goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = provider.UpTo(ctx, version)
	return err
}

// createSchema creates the schema that holds goose's own table. The lock is needed:
// CREATE SCHEMA IF NOT EXISTS fails when two run it at once. It also asks for the right to
// create schemas, which nobody needs whose schema is there.
func createSchema(ctx context.Context, pool *pgxpool.Pool, patience time.Duration) error {
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
		for _, sql := range []string{lockTimeout(patience), fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", migrationKey)} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%w: %w", errOtherMigration, err)
			}
		}
		var exists bool
		if err := tx.QueryRow(ctx, "SELECT to_regnamespace('mailtally') IS NOT NULL").Scan(&exists); err != nil || exists {
			return err
		}
		if _, err := tx.Exec(ctx, "CREATE SCHEMA mailtally"); err != nil {
			return fmt.Errorf("create schema mailtally: %w", err)
		}
		return nil
	})
}

// migrationLock lets one process at a time migrate. goose's own locker polls; this one
// blocks until its turn.
type migrationLock struct{ patience time.Duration }

// errOtherMigration says that a wait for migrationKey failed.
var errOtherMigration = errors.New("wait for other migrations")

func (l migrationLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	// The time-out is the transaction's; the lock outlives it.
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, sql := range []string{lockTimeout(l.patience), fmt.Sprintf("SELECT pg_advisory_lock(%d)", migrationKey)} {
		if _, err := tx.ExecContext(ctx, sql); err != nil {
			return fmt.Errorf("%w: %w", errOtherMigration, err)
		}
	}
	return tx.Commit()
}

func (migrationLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	var held bool
	err := conn.QueryRowContext(ctx, "SELECT pg_advisory_unlock($1)", migrationKey).Scan(&held)
	if err == nil && !held {
		err = errors.New("the lock was taken on another connection, which still holds it: migrate needs a direct connection to PostgreSQL, " +
			"or a proxy that pools sessions, not transactions")
	}
	return err
}

func lockTimeout(d time.Duration) string {
	return fmt.Sprintf("SET LOCAL lock_timeout = '%dms'", d.Milliseconds())
}
