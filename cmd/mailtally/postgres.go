package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/IBM/pgxpoolprometheus"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailtally/mailtally/tracking"
)

// openPool makes the pool, which connects on first use. It has room for that many
// writers and for all other queries, unless the URL limits the connections: then they
// take turns. reg may be nil.
func openPool(ctx context.Context, c config, writers int, reg prometheus.Registerer) (*pgxpool.Pool, error) {
	config, err := poolConfig(c.DatabaseURL)
	if err != nil {
		return nil, err
	}
	// What DATABASE_URL_FILE and the files that the URL names (sslcert, sslrootcert,
	// passfile …) hold at that moment.
	config.BeforeConnect = func(_ context.Context, connection *pgx.ConnConfig) error {
		url, err := secret(c.DatabaseURL, "DATABASE_URL", c.DatabaseURLFile)
		if err != nil {
			return err
		}
		now, err := poolConfig(url)
		if err != nil {
			return fmt.Errorf("DATABASE_URL: %w", err)
		}
		*connection = *now.ConnConfig
		return nil
	}
	if said, err := pgconn.ParseConfig(strings.TrimSpace(c.DatabaseURL)); err == nil && said.RuntimeParams["pool_max_conns"] == "" {
		config.MaxConns = max(config.MaxConns, int32(writers)+2)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the pool of PostgreSQL connections: %w", err)
	}
	if reg != nil {
		reg.MustRegister(pgxpoolprometheus.NewCollector(pool, nil))
	}
	return pool, nil
}

// poolCloseTimeout bounds the wait, when a role ends, for connections to a PostgreSQL
// that does not answer.
const poolCloseTimeout = time.Second

// openPool opens the pool for so many members; it is closed at the end.
func (l *lifecycle) openPool(ctx context.Context, c config, members int, reg prometheus.Registerer) (*pgxpool.Pool, error) {
	pool, err := openPool(ctx, c, members*c.ConsumerWriters, reg)
	if err == nil {
		l.onEnd("database connections", poolCloseTimeout, func() error { pool.Close(); return nil })
	}
	return pool, err
}

// partitionInterval is how often a member creates missing partitions for the coming
// months. They are created months ahead, so there is time to fix a failure.
const partitionInterval = time.Hour

// keepPartitions creates the partitions of coming months, until ctx ends.
func keepPartitions(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) {
	ticker := time.NewTicker(partitionInterval)
	defer ticker.Stop()
	for {
		ensurePartitions(ctx, pool, log)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// ensurePartitions creates the missing partitions of the history. A failure is no more
// than a warning: the default partition takes the events meanwhile.
func ensurePartitions(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) {
	made, err := tracking.EnsurePartitions(ctx, pool, time.Now())
	if len(made) > 0 {
		log.Info("partitions of the history made", "tables", made)
	}
	if err != nil && ctx.Err() == nil {
		log.Warn("partitions of the history not made: consumers try again every hour, and until then the default partition takes their events", "error", err)
	}
}
