package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
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
	extra map[string]string // settings that differ from the usual ones
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
	d := &database{Server: server, dir: dir, extra: extra, log: b.log}
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
	statements := []string{
		"DROP DATABASE IF EXISTS %[1]s WITH (FORCE)",
		"CREATE DATABASE %[1]s",
	}
	if d.extra["wal_compression"] == "" {
		// The best that the server's build offers; a server without LZ4 has pglz.
		statements = append(statements, `DO $$ BEGIN
			EXECUTE format('ALTER DATABASE %[1]s SET wal_compression = %%L',
				(SELECT CASE WHEN 'lz4' = ANY (enumvals) THEN 'lz4' ELSE 'on' END FROM pg_settings WHERE name = 'wal_compression'));
		END $$`)
	}
	for _, sql := range statements {
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

// checkpoints is how many the server has begun since it was made.
func (d *database) checkpoints(ctx context.Context) (n int64, err error) {
	var version int
	if err := d.admin.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return 0, err
	}
	sql := "SELECT checkpoints_timed + checkpoints_req FROM pg_stat_bgwriter"
	if version >= 17_00_00 {
		sql = "SELECT num_timed + num_requested FROM pg_stat_checkpointer"
	}
	err = d.admin.QueryRow(ctx, sql).Scan(&n)
	return n, err
}

// prime writes max_wal_size of WAL and has the server use all of its segments
// again. They are what a server that has run for a while has, and a fresh one must
// make and fill with zeros, one after the other.
func (d *database) prime(ctx context.Context) error {
	// Of one megabyte each, in which no file system finds anything to compress.
	message := make([]byte, 1<<20)
	rand.Read(message)
	// The slot keeps the checkpoints in between from renaming a segment before all
	// of them exist.
	for _, statement := range []struct {
		sql  string
		args []any
	}{
		{"SELECT pg_create_physical_replication_slot('prime', true)", nil},
		{`SELECT count(pg_logical_emit_message(false, 'prime', $1::bytea))
		    FROM generate_series(1, (SELECT setting::int FROM pg_settings WHERE name = 'max_wal_size'))`, []any{message}},
		{"SELECT pg_drop_replication_slot('prime')", nil},
		{"CHECKPOINT", nil},
	} {
		if _, err := d.admin.Exec(ctx, statement.sql, statement.args...); err != nil {
			return fmt.Errorf("write WAL for its segments to be used again: %w", err)
		}
	}
	return nil
}

// cpuSeconds is the CPU time that the server has used: NaN where the system does
// not tell.
func (d *database) cpuSeconds() float64 {
	used, err := cpu(d.Pid())
	if err != nil {
		return math.NaN()
	}
	return used.Seconds()
}

// queryTallies reads the sums over all emails that sql asks for.
func queryTallies(ctx context.Context, pool *pgxpool.Pool, sql string) (tallies, error) {
	rows, err := pool.Query(ctx, sql)
	if err != nil {
		return tallies{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[tallies])
}
