package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailtally/mailtally/consumer"
	"github.com/mailtally/mailtally/internal/simulate"
)

const (
	devMembers = 2

	// Somebody who pressed Ctrl-C is waiting, so dev gives up sooner than the roles do
	// on Kafka, PostgreSQL and clients that hang.
	devDrain       = time.Second
	devStopTimeout = 5 * time.Second
)

// devDefaults are loopback addresses, a log level that leaves the screen to the numbers,
// and no wait for a load balancer.
func devDefaults() map[string]string {
	return map[string]string{
		"HTTP_ADDR": "127.0.0.1:8080", "ADMIN_ADDR": "127.0.0.1:8081",
		"LOG_LEVEL": "warn", "LOG_FORMAT": "text", "SHUTDOWN_DELAY": "0s",
	}
}

// devFlags are dev's own settings.
type devFlags struct {
	data, binaries string
	rate           float64
}

// runDev runs the whole system in this process. It starts what is not configured, on
// loopback, and stops everything in the order in which data flows, so that nothing is
// cut off midway.
func runDev(ctx context.Context, i *invocation) error {
	var flags devFlags
	i.flags.StringVar(&flags.data, "data", "", "keep the data in this `folder` between runs (default: temporary)")
	i.flags.Float64Var(&flags.rate, "rate", 50, "simulated webhooks a second; 0 for none")
	i.flags.StringVar(&flags.binaries, "postgres-bin", "", "the `folder` with PostgreSQL's postgres and initdb (default: found, or fetched)")
	c, log, flush, err := i.begin(0)
	if err != nil {
		return err
	}
	defer flush()
	if !(flags.rate >= 0) { // NaN too
		return usageError{fmt.Errorf("-rate %v: want 0 or more", flags.rate)}
	}
	if c.brokersDefaulted && (c.KafkaTLS || c.KafkaSASLMechanism != "") {
		return usageError{errors.New("KAFKA_TLS or KAFKA_SASL_MECHANISM is set, but KAFKA_BROKERS is not: " +
			"the embedded Kafka has no TLS and a password of its own, so set KAFKA_BROKERS too, or none of them")}
	}
	return live(ctx, log, func(ctx context.Context, life *lifecycle) error { return startDev(ctx, life, c, flags, i) })
}

func startDev(ctx context.Context, life *lifecycle, c config, flags devFlags, i *invocation) error {
	// The ports first: if one is taken, nothing has been started yet.
	public, err := life.listen("HTTP_ADDR", c.HTTPAddr)
	if err != nil {
		return err
	}
	admin, err := life.listen("ADMIN_ADDR", c.AdminAddr)
	if err != nil {
		return err
	}
	c.HTTPAddr, c.AdminAddr = public.Addr().String(), admin.Addr().String()
	dir, err := openDevDir(flags.data)
	if err != nil {
		return err
	}
	life.onEnd("the data folder", 0, dir.close)
	if err := dir.fillIn(&c); err != nil {
		return err
	}
	parts, err := startParts(ctx, life, &c, dir, flags.binaries, i.stderr)
	if err != nil {
		return err
	}
	reg := newRegistry()
	pool, err := life.openPool(ctx, c, devMembers, reg)
	if err != nil {
		return err
	}
	if err := prepare(ctx, c, pool, life.log); err != nil {
		return err
	}
	life.onEnd("the numbers", 0, func() error { printStatus(i.stdout, reg); return nil })
	if err := startRoles(ctx, life.group("roles", c.ShutdownDelay+devStopTimeout), c, pool, reg, public, admin); err != nil {
		return err
	}
	if flags.rate > 0 {
		simulator, err := simulate.New(simulate.Config{URL: webhookURL(c.HTTPAddr), Secret: firstSecret(c), Rate: flags.rate, Faults: true})
		if err != nil {
			return err
		}
		life.run("simulated traffic", func(ctx context.Context) error {
			if err := simulator.Run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("simulated traffic: %w", err)
			}
			return nil
		})
	}
	printWelcome(i.stdout, c, parts, flags.data)
	life.run("the numbers", func(ctx context.Context) error {
		eachInterval(ctx, func() { printStatus(i.stdout, reg) })
		fmt.Fprintln(i.stdout, "stopping")
		return nil
	})
	return nil
}

// startRoles starts a producer, the members of the group, and one admin server for all
// of them.
func startRoles(ctx context.Context, life *lifecycle, c config, pool *pgxpool.Pool, reg *prometheus.Registry, public, admin net.Listener) error {
	// Each role has labels of its own, as it would in its own process.
	as := func(name string) prometheus.Registerer {
		return prometheus.WrapRegistererWith(prometheus.Labels{"member": name}, reg)
	}
	checks := []check{databaseCheck(pool)}
	var members []*consumer.Consumer
	for i := range devMembers {
		name := strconv.Itoa(i + 1)
		member, err := newMember(c, pool, as(name), life.log.With("member", name))
		if err != nil {
			return err
		}
		members = append(members, member)
		checks = append(checks, check{"member " + name, member.Ready})
	}
	gateway, err := newGateway(life, c, reg, as("producer"))
	if err != nil {
		return err
	}
	checks = append(checks, check{"producer", gateway.Ready})
	life.serve("admin", admin, adminHandler(ctx, reg, checks...), adminServing())
	life.runMembers(pool, reg, members...)
	life.serve("webhooks", public, gateway.Handler(), serving{webhookConnections(), c.HTTPIdleTimeout, c.ShutdownDelay, devDrain})
	return nil
}

// prepare creates the schema and the topics, as mailtally migrate does.
func prepare(ctx context.Context, c config, pool *pgxpool.Pool, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, c.MigrateTimeout)
	defer cancel()
	if err := createSchema(ctx, c, pool, log); err != nil {
		return err
	}
	return createTopics(ctx, c, log)
}

func firstSecret(c config) string {
	secret, _, _ := strings.Cut(c.ResendWebhookSecrets, ",")
	return strings.TrimSpace(secret)
}
