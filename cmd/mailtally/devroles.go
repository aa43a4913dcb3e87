package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailtally/mailtally/producer"
	"github.com/mailtally/mailtally/tracking"
)

// Who presses Ctrl-C waits for dev to end, so it is less patient than the roles
// are with Kafka, PostgreSQL and clients that hang.
const (
	devDrain       = time.Second
	devStopTimeout = 5 * time.Second
)

// startRoles starts a producer, the members of the group and the admin server.
// stop ends them in that order.
func startRoles(c config, pool *pgxpool.Pool, reg *prometheus.Registry, log *slog.Logger, public, admin net.Listener, fail func(error)) (stop func(), err error) {
	checks := []check{{"database", func(ctx context.Context) error { return tracking.Ready(ctx, pool) }}}
	var stops []func()
	stop = sync.OnceFunc(func() {
		atMost(devStopTimeout, log, "roles", func() {
			for i := len(stops) - 1; i >= 0; i-- {
				stops[i]()
			}
		})
	})
	defer func() {
		if err != nil {
			stop()
		}
	}()

	var members []func()
	stops = append(stops, func() { inParallel(members) })
	for i := range devMembers {
		name := strconv.Itoa(i + 1)
		// Each role counts under its own name, as it would in its own process.
		reg := prometheus.WrapRegistererWith(prometheus.Labels{"member": name}, reg)
		log := log.With("member", name)
		kafka, err := kafkaOptions(c, reg, log)
		if err != nil {
			return nil, err
		}
		member, err := newMember(c, kafka, pool, reg, log)
		if err != nil {
			return nil, err
		}
		checks = append(checks, check{"member " + name, member.Ready})
		members = append(members, stage(member.Run))
	}
	stops = append(stops, stage(func(ctx context.Context) { keepPartitions(ctx, pool, log) }))

	kafka, err := kafkaOptions(c, prometheus.WrapRegistererWith(prometheus.Labels{"member": "producer"}, reg), log)
	if err != nil {
		return nil, err
	}
	gateway, err := producer.New(producer.Options{
		Kafka: kafka, Topic: c.KafkaTopic, DeadLetterTopic: c.KafkaDeadLetterTopic,
		Endpoints: c.endpoints, Registerer: reg, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	stops = append(stops, gateway.Close)
	checks = append(checks, check{"producer", gateway.Ready})

	serving := func(component string, listener net.Listener, handler http.Handler) (stop func()) {
		return stage(func(ctx context.Context) {
			if err := serve(ctx, listener, handler, devDrain, log.With("component", component)); err != nil {
				fail(err)
			}
		})
	}
	stops = append(stops, serving("webhooks", public, gateway.Handler()))
	stops = slices.Insert(stops, 0, serving("admin", admin, adminHandler(reg, checks...)))
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

// atMost runs f and waits for it, but not for ever. What it gives up on ends with
// the process; records that were not committed are consumed again.
func atMost(d time.Duration, log *slog.Logger, component string, f func()) {
	start := time.Now()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ended:
		log.Info("closed", "component", component, "duration", since(start))
	case <-timer.C:
		log.Warn("gave up waiting for its end: Kafka or PostgreSQL hangs; what is not committed is consumed again", "component", component)
	}
}

func inParallel(list []func()) {
	var running sync.WaitGroup
	for _, f := range list {
		running.Go(f)
	}
	running.Wait()
}
