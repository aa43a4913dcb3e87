package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/internal/simulate"
)

const (
	devMembers = 2
	devRate    = 50.0
)

// runDev runs the whole system in this process. What is not configured is
// started here, on loopback; all of it ends in the order in which data flows, so
// that nothing is cut off in the middle.
func runDev(ctx context.Context, args []string, environ map[string]string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("dev", flag.ContinueOnError)
	data := flags.String("data", "", "keep the data in this folder between runs (default: temporary)")
	rate := flags.Float64("rate", devRate, "simulated webhooks a second; 0 for none")
	binaries := flags.String("postgres-bin", "", "the folder with PostgreSQL's postgres and initdb (default: found, or fetched)")
	if err := parseFlags(flags, args, stdout); err != nil {
		return err
	}
	if !(*rate >= 0) { // NaN too
		return usageError{fmt.Errorf("-rate %v: want 0 or more", *rate)}
	}
	environ = withDefaults(environ, map[string]string{
		// Loopback only, and logs that leave the screen to the numbers.
		"HTTP_ADDR": "127.0.0.1:8080", "ADMIN_ADDR": "127.0.0.1:8081",
		"LOG_LEVEL": "warn", "LOG_FORMAT": "text",
	})
	c, err := loadConfig(environ, 0)
	if err != nil {
		return err
	}
	if c.brokersDefaulted && (c.KafkaTLS || c.KafkaSASLMechanism != "") {
		return usageError{errors.New("KAFKA_TLS or KAFKA_SASL_MECHANISM is set, but KAFKA_BROKERS is not: " +
			"the embedded Kafka has neither, so set KAFKA_BROKERS too, or none of them")}
	}
	log, flush := newLogger(c, stderr)
	defer flush()

	// The ports first: if one is taken, nothing has been started yet.
	public, err := listen("HTTP_ADDR", c.HTTPAddr)
	if err != nil {
		return err
	}
	defer public.Close()
	admin, err := listen("ADMIN_ADDR", c.AdminAddr)
	if err != nil {
		return err
	}
	defer admin.Close()
	c.HTTPAddr, c.AdminAddr = public.Addr().String(), admin.Addr().String()

	dir, err := openDevDir(*data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.close()) }()
	if err := dir.fillIn(&c); err != nil {
		return err
	}

	// A part that fails ends the others.
	user := ctx
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	parts, err := startParts(ctx, &c, dir, *binaries, log, stderr, fail)
	if err != nil {
		return whyEnded(user, ctx, err)
	}
	defer func() { err = errors.Join(err, parts.stop()) }()

	reg := newRegistry()
	pool, err := openPool(ctx, c.DatabaseURL, devMembers*c.ConsumerWriters, reg)
	if err != nil {
		return err
	}
	defer atMost(poolCloseTimeout, log, "database connections", pool.Close)
	if err := prepare(ctx, c, pool, log); err != nil {
		return whyEnded(user, ctx, err)
	}
	stopRoles, err := startRoles(c, pool, reg, log, public, admin, fail)
	if err != nil {
		return err
	}
	defer stopRoles()
	stopTraffic := func() {}
	if *rate > 0 {
		url, err := webhookURL(c.HTTPAddr)
		if err != nil {
			return err
		}
		simulator, err := simulate.New(simulate.Config{URL: url, Secret: firstSecret(c), Rate: *rate, Faults: true})
		if err != nil {
			return err
		}
		stopTraffic = stage(func(ctx context.Context) {
			if err := simulator.Run(ctx); err != nil && ctx.Err() == nil {
				fail(fmt.Errorf("simulated traffic: %w", err))
			}
		})
	}

	page, err := localURL("ADMIN_ADDR", c.AdminAddr, "/")
	if err != nil {
		return err
	}
	printWelcome(stdout, c, parts, *data, page)
	showStatus(ctx, stdout, reg)
	fmt.Fprintln(stdout, "stopping")
	stopTraffic()
	stopRoles()
	printStatus(stdout, reg)
	return whyEnded(user, ctx, nil)
}

// whyEnded is the error to end with, given the one that was met. After Ctrl-C
// there is none: whatever failed then failed because of it. If a part has failed,
// the others' errors are its echo.
func whyEnded(user, ctx context.Context, err error) error {
	if user.Err() != nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// withDefaults adds to environ what is not set in it.
func withDefaults(environ, defaults map[string]string) map[string]string {
	merged := maps.Clone(defaults)
	for name, value := range environ {
		if strings.TrimSpace(value) != "" {
			merged[name] = value
		}
	}
	return merged
}

// prepare makes schema and topics, as mailtally migrate does.
func prepare(ctx context.Context, c config, pool *pgxpool.Pool, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	if err := createSchema(ctx, pool, log); err != nil {
		return err
	}
	return createTopics(ctx, c, log)
}

func firstSecret(c config) string {
	secret, _, _ := strings.Cut(c.ResendWebhookSecrets, ",")
	return strings.TrimSpace(secret)
}
