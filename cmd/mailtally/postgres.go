package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/pgxpoolprometheus"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
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

// openPool opens the pool for that many members; it is closed at the end.
func (l *lifecycle) openPool(ctx context.Context, c config, members int, reg prometheus.Registerer) (*pgxpool.Pool, error) {
	pool, err := openPool(ctx, c, members*c.ConsumerWriters, reg)
	if err == nil {
		l.onEnd("database connections", poolCloseTimeout, func() error { pool.Close(); return nil })
	}
	return pool, err
}
