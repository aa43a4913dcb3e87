package main

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/consumer"
	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider/all"
)

// runConsumer is one member of the consumer group. When ctx ends it finishes
// the batch in hand, commits its offsets and leaves the group.
func runConsumer(ctx context.Context, args []string, environ map[string]string, _, stderr io.Writer) error {
	if err := noArguments(args); err != nil {
		return err
	}
	c, err := loadConfig(environ, needsDatabase)
	if err != nil {
		return err
	}
	log, flush := newLogger(c, stderr)
	defer flush()
	return runMember(ctx, c, newRegistry(), log)
}

// runMember is the member, which counts in reg.
func runMember(ctx context.Context, c config, reg *prometheus.Registry, log *slog.Logger) (err error) {
	defer func() {
		if err == nil {
			log.Info("consumer stopped", "group", c.KafkaGroup)
		}
	}()
	pool, err := openPool(ctx, c.DatabaseURL, c.ConsumerWriters, reg)
	if err != nil {
		return err
	}
	defer atMost(poolCloseTimeout, log, "database connections", pool.Close)
	kafka, err := kafkaOptions(c, reg, log)
	if err != nil {
		return err
	}
	admin, err := listen("ADMIN_ADDR", c.AdminAddr)
	if err != nil {
		return err
	}
	defer admin.Close()
	withSettings(log, c).Info("consumer started", "group", c.KafkaGroup, "database", databaseName(c.DatabaseURL),
		"writers", c.ConsumerWriters, "max_batch", c.ConsumerMaxBatch, "admin_addr", admin.Addr().String())
	member, err := newMember(c, kafka, pool, reg, log)
	if err != nil {
		return err
	}
	ready := []check{
		{"kafka", member.Ready},
		{"database", func(ctx context.Context) error { return tracking.Ready(ctx, pool) }},
	}
	return withAdmin(ctx, admin, adminHandler(reg, ready...), log, func(ctx context.Context) error {
		var running sync.WaitGroup
		running.Go(func() { keepPartitions(ctx, pool, log) })
		member.Run(ctx)
		running.Wait()
		return nil
	})
}

// newMember makes a member that counts in reg.
func newMember(c config, kafka []kgo.Opt, pool *pgxpool.Pool, reg prometheus.Registerer, log *slog.Logger) (*consumer.Consumer, error) {
	return consumer.New(consumer.Options{
		Kafka: kafka, Topic: c.KafkaTopic, DeadLetterTopic: c.KafkaDeadLetterTopic, Group: c.KafkaGroup,
		Providers: all.Providers(), Store: &tracking.Store{Pool: pool}, Registerer: reg, Logger: log,
		MaxBatch: c.ConsumerMaxBatch, Writers: c.ConsumerWriters,
	})
}
