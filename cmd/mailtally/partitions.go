package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailtally/mailtally/tracking"
)

const (
	// partitionInterval is how often a member looks for months without a partition, which
	// costs one short query. Those of the coming months are made long before they are
	// needed, so this is about strays: the fewer there are, the sooner they have moved.
	partitionInterval = time.Minute

	// partitionRetry is how long a member waits after a failure. Behind somebody who reads
	// the history for long, each try makes others who read it wait for two seconds.
	partitionRetry = 10 * time.Minute
)

// keepPartitions creates the missing partitions of the history, until ctx ends. failing
// is 1 while it cannot.
func keepPartitions(ctx context.Context, pool *pgxpool.Pool, failing prometheus.Gauge, log *slog.Logger) {
	for {
		wait, failed := partitionInterval, 0.0
		if !ensurePartitions(ctx, pool, log) {
			wait, failed = partitionRetry, 1
		}
		failing.Set(failed)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// ensurePartitions creates the missing partitions of the history. A failure is no more
// than a warning: the default partition takes the events meanwhile.
func ensurePartitions(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) (ok bool) {
	made, err := tracking.EnsurePartitions(ctx, pool, time.Now())
	if len(made) > 0 {
		log.Info("partitions of the history made", "tables", made)
	}
	if err != nil && ctx.Err() == nil {
		log.Warn("partitions of the history not made: consumers try again every ten minutes, and until then the default partition takes their events", "error", err)
	}
	return err == nil
}

// newPartitionsFailing makes the metric of keepPartitions.
func newPartitionsFailing(reg prometheus.Registerer) prometheus.Gauge {
	failing := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mailtally_partitions_failing",
		Help: "1 if, at the last try, partitions that the history needs could not be made; 0 otherwise.",
	})
	reg.MustRegister(failing)
	return failing
}
