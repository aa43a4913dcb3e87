package main

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailtally/mailtally/tracking"
)

// vacuumInterval is how often a process asks what holds back vacuum.
const vacuumInterval = 15 * time.Second

// vacuumWatch measures for how long vacuum has been held back, by the database's clock of
// transactions: it marks the next one, and once all that is older has ended, the next one
// at that time. So the value is a lower bound that rises up to the truth, and restarts at
// 0. Used by one goroutine.
type vacuumWatch struct {
	held   prometheus.Gauge
	mark   int64 // the next transaction
	marked time.Time
}

func newVacuumWatch(reg prometheus.Registerer) *vacuumWatch {
	w := &vacuumWatch{held: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mailtally_vacuum_held_back_seconds",
		Help: "For at least how long a transaction, a prepared one or a standby's snapshot has kept vacuum from removing old versions of rows. Emails that are written all the time become slow meanwhile. NaN while PostgreSQL does not answer.",
	})}
	w.held.Set(math.NaN())
	reg.MustRegister(w.held)
	return w
}

// run measures until ctx ends.
func (w *vacuumWatch) run(ctx context.Context, pool *pgxpool.Pool, interval time.Duration, log *slog.Logger) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		asked, cancel := context.WithTimeout(ctx, interval)
		oldest, next, err := tracking.VacuumHorizon(asked, pool)
		cancel()
		if err == nil {
			w.held.Set(w.seen(oldest, next, time.Now()).Seconds())
		} else {
			w.held.Set(math.NaN())
			log.Debug("could not measure for how long vacuum has been held back", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// seen takes a measurement. After a failover or a restore, transactions may be counted from
// an earlier one.
func (w *vacuumWatch) seen(oldest, next int64, now time.Time) time.Duration {
	if oldest >= w.mark || next < w.mark {
		w.mark, w.marked = next, now
	}
	return now.Sub(w.marked)
}
