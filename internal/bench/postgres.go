package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/internal/baseline"
	"github.com/mailtally/mailtally/internal/localpg"
	"github.com/mailtally/mailtally/tracking"
)

// settings are those of a realistic server that loses nothing when the machine crashes.
var settings = map[string]string{
	"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
	"shared_buffers": "2GB", "max_wal_size": "8GB", "min_wal_size": "2GB", "max_connections": "200",
}

const settingsText = "PostgreSQL with fsync, full_page_writes and synchronous_commit on, shared_buffers 2 GB, max_wal_size 8 GB, min_wal_size 2 GB, wal_compression lz4 where the build has it; all else as it comes."

// database is a part's own PostgreSQL server.
type database struct {
	*localpg.Server
	admin *pgxpool.Pool
}

// startPostgres starts a server with its data in dir, with more in addition to
// settings.
func (b *bench) startPostgres(ctx context.Context, dir string, more map[string]string) (*database, error) {
	all := maps.Clone(settings)
	maps.Copy(all, more)
	server, err := localpg.Start(ctx, localpg.Options{Dir: dir, Settings: all, Log: b.log})
	if err != nil {
		return nil, err
	}
	d := &database{Server: server}
	var version string
	if d.admin, err = pgxpool.New(ctx, d.URL("postgres")); err == nil {
		err = d.admin.QueryRow(ctx, "SHOW server_version").Scan(&version)
	}
	if err != nil {
		d.stop()
		return nil, err
	}
	b.report.versions = append(b.report.versions, "PostgreSQL "+version)
	return d, nil
}

func (d *database) stop() {
	if d.admin != nil {
		d.admin.Close()
	}
	// Whatever ended the part: its context may have ended.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	d.Stop(ctx) // killed at the deadline: nobody needs its data
}

// fresh recreates the database bench, with the tables of mailtally and of the
// baselines, once nothing is left to flush from the previous one. Its connections are
// open.
func (d *database) fresh(ctx context.Context, connections int32) (*pgxpool.Pool, error) {
	for _, sql := range []string{
		"DROP DATABASE IF EXISTS bench WITH (FORCE)",
		"CREATE DATABASE bench",
		// The best that the server's build offers; one without LZ4 has pglz.
		`DO $$ BEGIN
			EXECUTE format('ALTER DATABASE bench SET wal_compression = %L',
				(SELECT CASE WHEN 'lz4' = ANY (enumvals) THEN 'lz4' ELSE 'on' END FROM pg_settings WHERE name = 'wal_compression'));
		END $$`,
	} {
		if _, err := d.admin.Exec(ctx, sql); err != nil {
			return nil, fmt.Errorf("make a fresh database: %w", err)
		}
	}
	config, err := pgxpool.ParseConfig(d.URL("bench"))
	if err != nil {
		return nil, err
	}
	config.MaxConns = connections
	config.ConnConfig.OnNotice = tracking.NoteWarning
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if err = errors.Join(tracking.Migrate(ctx, pool), baseline.Migrate(ctx, pool)); err == nil {
		_, err = pool.Exec(ctx, "CHECKPOINT")
	}
	for i := int32(0); i < connections && err == nil; i++ { // or they would be opened within what is measured
		var conn *pgxpool.Conn
		if conn, err = pool.Acquire(ctx); err == nil {
			defer conn.Release()
		}
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// timed runs write, and returns how long it took and how much WAL the server wrote
// meanwhile.
func (d *database) timed(ctx context.Context, write func(context.Context) error) (took time.Duration, wal float64, err error) {
	// This process holds whole streams in memory, unlike a consumer: collect garbage
	// now, and hardly while it is measured.
	defer undisturbed()()
	const sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8"
	var before, after float64
	if err := d.admin.QueryRow(ctx, sql).Scan(&before); err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := write(ctx); err != nil {
		return 0, 0, err
	}
	took = time.Since(start)
	err = d.admin.QueryRow(ctx, sql).Scan(&after)
	return took, after - before, err
}
