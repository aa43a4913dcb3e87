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

// monthsAhead is how many months beyond the current one have their partition. Since every
// member ensures them every hour, they exist long before they are needed, even if all
// members are down for weeks.
const monthsAhead = 2

// EnsurePartitions creates the missing partitions of email_event, for the month before
// now, that of now and the next two. It locks none of the history's partitions except the
// default one: while it finds and moves the month's events out of it, and for a few
// seconds at most while it waits for the lock. If it fails it can be called again: until a
// month has its partition, its events go to the default one. made lists the partitions
// that it created.
func EnsurePartitions(ctx context.Context, pool *pgxpool.Pool, now time.Time) (made []string, err error) {
	this := time.Date(now.UTC().Year(), now.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	for i := -1; i <= monthsAhead; i++ {
		month := this.AddDate(0, i, 0)
		name := "email_event_" + month.Format("2006_01")
		isNew, err := ensurePartition(ctx, pool, name, month)
		if err != nil {
			return made, fmt.Errorf("tracking: create the partition for %s: %w", month.Format("2006-01"), withoutData(err))
		}
		if isNew {
			made = append(made, name)
		}
	}
	return made, nil
}

func ensurePartition(ctx context.Context, pool *pgxpool.Pool, name string, month time.Time) (isNew bool, err error) {
	exists := func(q interface {
		QueryRow(context.Context, string, ...any) pgx.Row
	}) (found bool, err error) {
		err = q.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", pgx.QueryExecModeExec, "mailtally."+name).Scan(&found)
		return found, err
	}
	if found, err := exists(pool); err != nil || found {
		return false, err
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// Other members may be doing the same. The lock on the default partition lets one
		// of them do it, and keeps new strays out while the old ones move.
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '5s'"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "LOCK TABLE mailtally.email_event_default IN ACCESS EXCLUSIVE MODE"); err != nil {
			return err
		}
		if found, err := exists(tx); err != nil || found {
			return err
		}
		// Fill the table, then attach it: creating it as a partition would lock the whole
		// history against writers.
		table := pgx.Identifier{"mailtally", name}.Sanitize()
		from, to := month.Format(time.RFC3339), month.AddDate(0, 1, 0).Format(time.RFC3339)
		for _, sql := range []string{
			fmt.Sprintf("CREATE TABLE %s (LIKE mailtally.email_event INCLUDING ALL)", table),
			fmt.Sprintf(`WITH strays AS (DELETE FROM mailtally.email_event_default
			             WHERE occurred_at >= '%s' AND occurred_at < '%s' RETURNING *)
			             INSERT INTO %s SELECT * FROM strays`, from, to, table),
			fmt.Sprintf("ALTER TABLE mailtally.email_event ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')", table, from, to),
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		isNew = true
		return nil
	})
	return isNew && err == nil, err
}
