package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mailtally/mailtally/internal/localkafka"
	"github.com/mailtally/mailtally/internal/localpg"
)

const (
	devDatabase = "mailtally"

	// The first start ever may download PostgreSQL.
	postgresStartTimeout = 10 * time.Minute
	postgresStopTimeout  = 15 * time.Second
)

// parts are Kafka and PostgreSQL as dev found them configured or started them.
type parts struct {
	database, kafka string // what to call them on the screen
	started         bool   // at least one of them was started here
}

// startParts starts whatever c does not name, with its data below dir, and puts the
// address into c. If a PostgreSQL that it started exits, the process ends.
func startParts(ctx context.Context, life *lifecycle, c *config, dir *devDir, binaries string, stderr io.Writer) (parts, error) {
	p := parts{database: "the PostgreSQL of DATABASE_URL", kafka: "the Kafka of KAFKA_BROKERS"}
	if c.DatabaseURL == "" {
		server, err := startPostgres(ctx, life, dir, binaries, stderr)
		if err != nil {
			return p, err
		}
		c.DatabaseURL = server.URL(devDatabase)
		p.database, p.started = "PostgreSQL "+server.Version(), true
	}
	if c.brokersDefaulted {
		// Other users of this machine reach it too, and what is in it counts as genuine.
		c.KafkaSASLMechanism, c.KafkaSASLUsername, c.KafkaSASLPassword = "SCRAM-SHA-256", "mailtally", rand.Text()
		broker, err := localkafka.Start(filepath.Join(dir.path, "kafka"), life.log, localkafka.Password(c.KafkaSASLUsername, c.KafkaSASLPassword)...)
		if err != nil {
			return p, err
		}
		life.onEnd("the embedded Kafka", 0, func() error { broker.Close(); return nil })
		c.KafkaBrokers = []string{broker.Addr()}
		p.kafka, p.started = "an embedded Kafka", true
	}
	return p, nil
}

func startPostgres(ctx context.Context, life *lifecycle, dir *devDir, binaries string, stderr io.Writer) (*localpg.Server, error) {
	starting, cancel := context.WithTimeout(ctx, postgresStartTimeout)
	defer cancel()
	// Its messages (a download, say) explain a long wait.
	say := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	var settings map[string]string
	if dir.temporary { // nobody reads it after a crash
		settings = map[string]string{"fsync": "off", "full_page_writes": "off"}
	}
	server, err := localpg.Start(starting, localpg.Options{Dir: filepath.Join(dir.path, "postgres"), BinDir: binaries, Settings: settings, Log: say})
	if err != nil {
		return nil, err
	}
	life.onEnd("the local PostgreSQL", 0, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), postgresStopTimeout)
		defer cancel()
		return server.Stop(ctx)
	})
	go func() {
		<-server.Done()
		if err := server.Err(); err != nil {
			life.fail(fmt.Errorf("the local PostgreSQL ended: %w", err))
		}
	}()
	return server, createDatabase(ctx, server)
}

func createDatabase(ctx context.Context, server *localpg.Server) error {
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "CREATE DATABASE "+devDatabase)
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok && answer.Code == "42P04" {
		return nil // it exists from an earlier run
	}
	return err
}
