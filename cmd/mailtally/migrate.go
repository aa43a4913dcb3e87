package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/mailtally/mailtally/tracking"
)

// runMigrate brings PostgreSQL and Kafka to what this version needs. It may run any
// number of times, and on several machines at once.
func runMigrate(ctx context.Context, i *invocation) error {
	c, log, flush, err := i.begin(needsDatabase)
	if err != nil {
		return err
	}
	defer flush()
	pool, err := openPool(ctx, c, 0, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	err = patiently(ctx, log, c.MigrateTimeout, func() error { return createSchema(ctx, c, pool, log) })
	if err != nil {
		return err
	}
	fmt.Fprintln(i.stdout, "schema mailtally is up to date")
	err = patiently(ctx, log, c.MigrateTimeout, func() error { return createTopics(ctx, c, log) })
	if err != nil {
		return err
	}
	fmt.Fprintf(i.stdout, "topics %s and %s exist\n", c.KafkaTopic, c.KafkaDeadLetterTopic)
	return nil
}

// createSchema creates or upgrades the schema. If another session holds the lock for
// migrations, the error says which. That is after a twelfth of MIGRATE_TIMEOUT, five
// seconds, so that the log soon says it.
func createSchema(ctx context.Context, c config, pool *pgxpool.Pool, log *slog.Logger) error {
	start := time.Now()
	err := tracking.Upgrade(ctx, pool, max(c.MigrateTimeout/12, time.Millisecond))
	switch {
	case misconfigured(err):
		return usageError{err}
	case errors.As(err, new(*pgconn.ConnectError)):
		return fmt.Errorf("%w: check DATABASE_URL, and that PostgreSQL runs there", err)
	case err != nil:
		return err
	}
	version, err := tracking.SchemaVersion(ctx, pool)
	if err != nil {
		return err
	}
	log.Info("schema is up to date", "schema_version", version, "duration", since(start))
	ensurePartitions(ctx, pool, log)
	return nil
}

// patiently retries until it succeeds, for up to that long. A permanent error ends it at
// once.
func patiently(ctx context.Context, log *slog.Logger, timeout time.Duration, try func() error) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := try()
		if err != nil && !mayPass(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithMaxElapsedTime(timeout), backoff.WithNotify(func(err error, wait time.Duration) {
		log.Warn("not ready yet: retrying", "error", err, "retry_in", wait.Round(time.Millisecond).String())
	}))
	return err
}

// mayPass reports whether err may be transient: no answer always may, and a server's
// error code tells.
func mayPass(err error) bool {
	if misconfigured(err) {
		return false
	}
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		// By class (PostgreSQL's appendix A): connection, conflict, resources, a server that
		// is starting or stopping. Of class 55 a lock that is not available passes, and a
		// table that is not fit for what is asked of it does not.
		return answer.Code == "55P03" || slices.Contains([]string{"08", "40", "53", "57"}, answer.Code[:min(2, len(answer.Code))])
	}
	return !errors.As(err, new(*kerr.Error)) || kerr.IsRetriable(err)
}
