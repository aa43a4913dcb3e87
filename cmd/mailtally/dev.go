package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/consumer"
	"github.com/mailtally/mailtally/internal/simulate"
	"github.com/mailtally/mailtally/producer"
	"github.com/mailtally/mailtally/tracking"
)

const (
	devMembers     = 2
	devRate        = 50.0
	migrateTimeout = 30 * time.Second
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
	if *rate < 0 {
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
	log := newLogger(c, stderr)

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
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	parts, err := startParts(ctx, &c, environ, dir.path, *binaries, log, stderr, fail)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parts.stop()) }()

	reg := newRegistry()
	pool, err := openPool(ctx, c.DatabaseURL, reg)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := prepare(ctx, c, pool, log); err != nil {
		return err
	}
	stopRoles, err := startRoles(c, pool, reg, log, public, admin, fail)
	if err != nil {
		return err
	}
	defer stopRoles()
	stopTraffic := func() {}
	if *rate > 0 {
		simulator, err := simulate.New(simulate.Config{URL: "http://" + c.HTTPAddr + "/webhooks/resend", Secret: firstSecret(c), Rate: *rate, Faults: true})
		if err != nil {
			return err
		}
		stopTraffic = stage(func(ctx context.Context) {
			if err := simulator.Run(ctx); err != nil && ctx.Err() == nil {
				fail(fmt.Errorf("simulated traffic: %w", err))
			}
		})
	}

	printWelcome(stdout, c, parts.description, *data)
	showStatus(ctx, stdout, reg)
	fmt.Fprintln(stdout, "stopping")
	stopTraffic()
	stopRoles()
	printStatus(stdout, reg)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// withDefaults adds to environ what is not set in it.
func withDefaults(environ, defaults map[string]string) map[string]string {
	merged := maps.Clone(defaults)
	for name, value := range environ {
		if value != "" {
			merged[name] = value
		}
	}
	return merged
}

// prepare makes schema and topics, as mailtally migrate does.
func prepare(ctx context.Context, c config, pool *pgxpool.Pool, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	if err := tracking.Migrate(ctx, pool); err != nil {
		return err
	}
	options, err := kafkaOptions(c, nil, log)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	return createTopics(ctx, c, client)
}

// startRoles starts a producer, the members of the group and the admin server.
// stop ends them in that order.
func startRoles(c config, pool *pgxpool.Pool, reg *prometheus.Registry, log *slog.Logger, public, admin net.Listener, fail func(error)) (stop func(), err error) {
	checks := []check{{"database", func(ctx context.Context) error { return tracking.Ready(ctx, pool) }}}
	var stops []func()
	stop = sync.OnceFunc(func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stops[i]()
		}
	})
	defer func() {
		if err != nil {
			stop()
		}
	}()

	var members []func()
	for i := range devMembers {
		name := strconv.Itoa(i + 1)
		// Each role counts under its own name, as it would in its own process.
		reg := prometheus.WrapRegistererWith(prometheus.Labels{"member": name}, reg)
		kafka, err := kafkaOptions(c, reg, log)
		if err != nil {
			return nil, err
		}
		member, err := consumer.New(consumer.Options{
			Kafka: kafka, Topic: c.KafkaTopic, DeadLetterTopic: c.KafkaDeadLetterTopic, Group: c.KafkaGroup,
			Store: &tracking.Store{Pool: pool}, Registerer: reg, Logger: log.With("member", name),
		})
		if err != nil {
			return nil, err
		}
		checks = append(checks, check{"member " + name, member.Ready})
		members = append(members, stage(member.Run))
	}
	stops = append(stops, func() { inParallel(members) })
	stops = append(stops, stage(func(ctx context.Context) { keepPartitions(ctx, pool, log) }))

	kafka, err := kafkaOptions(c, prometheus.WrapRegistererWith(prometheus.Labels{"member": "producer"}, reg), log)
	if err != nil {
		return nil, err
	}
	gateway, err := producer.New(producer.Options{
		Kafka: kafka, Topic: c.KafkaTopic, DeadLetterTopic: c.KafkaDeadLetterTopic,
		Secrets: c.secrets, Registerer: reg, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	stops = append(stops, gateway.Close)
	checks = append(checks, check{"producer", gateway.Ready})

	serving := func(listener net.Listener, handler http.Handler) (stop func()) {
		return stage(func(ctx context.Context) {
			if err := serve(ctx, listener, handler, log); err != nil {
				fail(err)
			}
		})
	}
	stops = append(stops, serving(public, gateway.Handler()))
	stops = slices.Insert(stops, 0, serving(admin, adminHandler(reg, checks...)))
	return stop, nil
}

// stage runs f until stop is called, which waits for f to return.
func stage(f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

func inParallel(list []func()) {
	var running sync.WaitGroup
	for _, f := range list {
		running.Go(f)
	}
	running.Wait()
}

func firstSecret(c config) string {
	secret, _, _ := strings.Cut(c.ResendWebhookSecrets, ",")
	return strings.TrimSpace(secret)
}
