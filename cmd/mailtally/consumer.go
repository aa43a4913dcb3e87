package main

import (
	"cmp"
	"context"
	"log/slog"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailtally/mailtally/consumer"
	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider/all"
)

// runConsumer is one member of the consumer group. When ctx ends it finishes the
// batches in flight, commits its offsets and leaves the group.
func runConsumer(ctx context.Context, i *invocation) error {
	c, log, flush, err := i.begin(needsDatabase)
	if err != nil {
		return err
	}
	defer flush()
	return runMember(ctx, c, newRegistry(), log, flush)
}

// runMember runs a member that registers its metrics in reg. flush writes what log holds
// back.
func runMember(ctx context.Context, c config, reg *prometheus.Registry, log *slog.Logger, flush func()) error {
	err := live(ctx, log, func(ctx context.Context, life *lifecycle) error {
		admin, err := life.listen("ADMIN_ADDR", c.AdminAddr)
		if err != nil {
			return err
		}
		pool, err := life.openPool(ctx, c, 1, reg)
		if err != nil {
			return err
		}
		withSettings(log, c).Info("consumer started", "group", c.KafkaGroup, "database", databaseName(c.DatabaseURL),
			"writers", c.ConsumerWriters, "max_batch", c.ConsumerMaxBatch, "max_refused", c.ConsumerMaxRefused, "admin_addr", admin.Addr().String())
		member, err := newMember(c, pool, reg, log)
		if err != nil {
			return err
		}
		roles := life.group("consumer", roleStopTimeout)
		roles.serve("admin", admin, adminHandler(ctx, reg, check{"kafka", member.Ready}, databaseCheck(pool)), adminServing())
		roles.runMembers(pool, reg, member)
		return nil
	})
	if err == nil {
		flush()
		log.Info("consumer stopped", "group", c.KafkaGroup)
	}
	return err
}

// newMember makes a member that registers its metrics in reg.
func newMember(c config, pool *pgxpool.Pool, reg prometheus.Registerer, log *slog.Logger) (*consumer.Consumer, error) {
	kafka, err := kafkaOptions(c, reg, log)
	if err != nil {
		return nil, err
	}
	return consumer.New(consumer.Options{
		Kafka: kafka, Topic: c.KafkaTopic, DeadLetterTopic: c.KafkaDeadLetterTopic, Group: c.KafkaGroup,
		Providers: all.Providers(), Store: &tracking.Store{Pool: pool}, Registerer: reg, Logger: log,
		MaxBatch: c.ConsumerMaxBatch, Writers: c.ConsumerWriters, MaxRefused: cmp.Or(c.ConsumerMaxRefused, -1),
	})
}

// runMembers runs members of the group, creates the history's partitions as months come,
// and measures what holds back vacuum.
func (l *lifecycle) runMembers(pool *pgxpool.Pool, reg prometheus.Registerer, members ...*consumer.Consumer) {
	vacuum := newVacuumWatch(reg)
	l.run("vacuum", func(ctx context.Context) error { vacuum.run(ctx, pool, vacuumInterval, l.log); return nil })
	failing := newPartitionsFailing(reg)
	l.run("partitions", func(ctx context.Context) error { keepPartitions(ctx, pool, failing, l.log); return nil })
	l.run("members", func(ctx context.Context) error {
		var running sync.WaitGroup
		for _, m := range members {
			running.Go(func() { m.Run(ctx) })
		}
		running.Wait()
		return nil
	})
}

func databaseCheck(pool *pgxpool.Pool) check {
	return check{"database", func(ctx context.Context) error { return tracking.Ready(ctx, pool) }}
}
