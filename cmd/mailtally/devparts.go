package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mailtally/mailtally/internal/localkafka"
	"github.com/mailtally/mailtally/internal/localpg"
)

const (
	devDatabase = "mailtally"

	// The first start of all may fetch PostgreSQL.
	postgresStartTimeout = 10 * time.Minute
	postgresStopTimeout  = 6 * time.Second
)

// parts are the servers that dev started because none was configured.
type parts struct {
	description string
	broker      *localkafka.Broker
	postgres    *localpg.Server
}

// startParts starts what c does not name, with its data below dir, and puts its
// address into c. A PostgreSQL that ends by itself is reported to fail.
func startParts(ctx context.Context, c *config, dir *devDir, binaries string, log *slog.Logger, stderr io.Writer, fail func(error)) (_ *parts, err error) {
	p := new(parts)
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
		}
	}()
	database, kafka := "the PostgreSQL of DATABASE_URL", "the Kafka of KAFKA_BROKERS"
	if c.DatabaseURL == "" {
		start, cancel := context.WithTimeout(ctx, postgresStartTimeout)
		defer cancel()
		// What it says, such as that it is fetching, explains a long wait.
		say := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
		var settings map[string]string
		if dir.temporary { // then nobody reads it after a crash
			settings = map[string]string{"fsync": "off", "full_page_writes": "off"}
		}
		p.postgres, err = localpg.Start(start, localpg.Options{Dir: filepath.Join(dir.path, "postgres"), BinDir: binaries, Settings: settings, Log: say})
		if err != nil {
			return nil, err
		}
		server := p.postgres
		go func() {
			<-server.Done()
			if err := server.Err(); err != nil {
				fail(fmt.Errorf("the local PostgreSQL ended: %w", err))
			}
		}()
		if err := createDatabase(ctx, server); err != nil {
			return nil, err
		}
		c.DatabaseURL = server.URL(devDatabase)
		database = "PostgreSQL " + server.Version()
	}
	if c.brokersDefaulted {
		p.broker, err = localkafka.Start(filepath.Join(dir.path, "kafka"), log)
		if err != nil {
			return nil, err
		}
		c.KafkaBrokers = []string{p.broker.Addr()}
		kafka = "an embedded Kafka"
	}
	p.description = database + " and " + kafka
	return p, nil
}

// stop stops them, Kafka first.
func (p *parts) stop() error {
	if p.broker != nil {
		p.broker.Close()
	}
	if p.postgres == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), postgresStopTimeout)
	defer cancel()
	return p.postgres.Stop(ctx)
}

func createDatabase(ctx context.Context, server *localpg.Server) error {
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var exists bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", devDatabase).Scan(&exists)
	if err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+devDatabase)
	return err
}
