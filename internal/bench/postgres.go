package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/internal/baseline"
	"github.com/mailtally/mailtally/internal/localpg"
	"github.com/mailtally/mailtally/tracking"
)

// settings are those of a server of a size that is worth measuring, and which
// loses nothing when the machine dies.
var settings = map[string]string{
	"fsync":              "on",
	"full_page_writes":   "on",
	"synchronous_commit": "on",
	"shared_buffers":     "2GB",
	"max_wal_size":       "8GB",
	"min_wal_size":       "2GB", // of WAL at least are kept to be used again, once they have been written
	"max_connections":    "200",
}

const settingsText = "PostgreSQL with fsync, full_page_writes and synchronous_commit on, shared_buffers 2 GB, max_wal_size 8 GB, min_wal_size 2 GB, wal_compression lz4 where the build has it; all else as it comes."

// database is a PostgreSQL server of the run's own.
type database struct {
	*localpg.Server
	admin *pgxpool.Pool
	dir   string
	log   *slog.Logger
}

// postgres starts a server for a part, with those settings and the extra ones.
func (b *bench) postgres(ctx context.Context, name string, extra map[string]string) (*database, error) {
	all := make(map[string]string)
	for _, m := range []map[string]string{settings, extra} {
		for k, v := range m {
			all[k] = v
		}
	}
	dir := filepath.Join(b.dir, "postgres-"+name)
	server, err := localpg.Start(ctx, localpg.Options{Dir: dir, Settings: all, Log: b.log})
	if err != nil {
		return nil, err
	}
	d := &database{Server: server, dir: dir, log: b.log}
	if d.admin, err = connect(ctx, server.URL("postgres"), 2); err != nil {
		d.stop()
		return nil, err
	}
	var version string
	if err := d.admin.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
		d.stop()
		return nil, err
	}
	b.report.Machine.version("PostgreSQL", version)
	return d, nil
}

// stop stops the server and removes its data: the next part's needs the room.
func (d *database) stop() {
	if d.admin != nil {
		d.admin.Close()
	}
	// Whatever ended the part: its context may have.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := errors.Join(d.Stop(ctx), os.RemoveAll(d.dir)); err != nil {
		d.log.Error("a PostgreSQL did not stop as it should", "error", err)
	}
}

// fresh makes the database called bench anew, with mailtally's tables and the
// baselines', and nothing left to write from the one before.
func (d *database) fresh(ctx context.Context, connections int32) (*pgxpool.Pool, error) {
	pool, err := d.another(ctx, "bench", connections)
	if err != nil {
		return nil, err
	}
	if err := tracking.Migrate(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	if err := baseline.Migrate(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	if _, err := pool.Exec(ctx, "CHECKPOINT"); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// another makes the database with that name anew, without any tables.
func (d *database) another(ctx context.Context, name string, connections int32) (*pgxpool.Pool, error) {
	for _, sql := range []string{
		"DROP DATABASE IF EXISTS %[1]s WITH (FORCE)",
		"CREATE DATABASE %[1]s",
		// The best that the server's build offers; a server without LZ4 has pglz.
		`DO $$ BEGIN
			EXECUTE format('ALTER DATABASE %[1]s SET wal_compression = %%L',
				(SELECT CASE WHEN 'lz4' = ANY (enumvals) THEN 'lz4' ELSE 'on' END FROM pg_settings WHERE name = 'wal_compression'));
		END $$`,
	} {
		if _, err := d.admin.Exec(ctx, fmt.Sprintf(sql, name)); err != nil {
			return nil, fmt.Errorf("make a fresh database: %w", err)
		}
	}
	return connect(ctx, d.URL(name), connections)
}

func connect(ctx context.Context, url string, connections int32) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = connections
	return pgxpool.NewWithConfig(ctx, config)
}

// walBytes is how much WAL the server has written since it was made.
func (d *database) walBytes(ctx context.Context) (n int64, err error) {
	err = d.admin.QueryRow(ctx, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").Scan(&n)
	return n, err
}

// queryTallies reads the sums over all emails that sql asks for.
func queryTallies(ctx context.Context, pool *pgxpool.Pool, sql string) (tallies, error) {
	rows, err := pool.Query(ctx, sql)
	if err != nil {
		return tallies{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[tallies])
}
