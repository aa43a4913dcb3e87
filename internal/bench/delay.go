package main

import (
	"context"
	"fmt"
	"time"
)

const delayText = "Producer and one consumer with their default settings, one broker, PostgreSQL and the load generator share the machine. Signed webhooks of 1 KB, of events out of the middle of an arrival-ordered stream, fall due at random moments (a Poisson process) from 256 senders that do not wait for each other. " +
	"The time is from the moment when a webhook was to be sent to PostgreSQL's commit time stamp of its row (which costs PostgreSQL track_commit_timestamp). That stamp is taken before the WAL is flushed, so the commit's own fsync is not in it. p99.9 is left out where fewer than %s were measured. CPU is a webhook's, in transactions of so few events. The final rows are checked against what was sent. %s %s"

// tailSamples is how many samples a p99.9 needs: with fewer, it would rest on five at
// most.
const tailSamples = 5000

// delay measures the time from a webhook to its committed row.
func delay(ctx context.Context, b *bench) error {
	// The first run after a start is not measured: the broker's JIT is still compiling.
	if err := b.delayAt(ctx, 2000, &row{name: "warm-up"}); err != nil {
		return err
	}
	rates, rows := []float64{200, 2000, 10_000}, []row{{name: "200/s"}, {name: "2,000/s"}, {name: "10,000/s"}}
	if err := b.interleave(rows, func(i int) error { return b.delayAt(ctx, rates[i], &rows[i]) }); err != nil {
		return err
	}
	b.report.add("delay: from a webhook to its committed row", fmt.Sprintf(delayText, count(tailSamples), settingsText, kafkaText), rows)
	return nil
}

// delayAt does a run at one rate and adds its figures to the row.
func (b *bench) delayAt(ctx context.Context, rate float64, r *row) error {
	pool, err := b.db.fresh(ctx, 4)
	if err != nil {
		return err
	}
	defer pool.Close()
	t, err := b.kafka.topic(ctx, fmt.Sprintf("delay-%d", time.Now().UnixNano()), partitions)
	if err != nil {
		return err
	}
	p, err := b.mailtally(ctx, "producer", t.env()...)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := p.ready(ctx); err != nil {
		return err
	}
	m, err := b.mailtally(ctx, "consumer", append(t.env(), "KAFKA_GROUP="+t.name, "DATABASE_URL="+b.db.URL("bench"))...)
	if err != nil {
		return err
	}
	defer m.stop()
	if err := m.ready(ctx); err != nil {
		return err
	}

	l := generator{addr: p.addr, connections: 256, rate: rate, warmup: 2 * time.Second, measured: pick(b, 4*time.Second, 30*time.Second)}
	events := steady(1000+int(1.2*rate*(l.warmup+l.measured).Seconds()), time.Now())
	l.request = p.due(events)
	met, used, err := l.load(ctx, m.Pid(), b.db.Pid())
	if err != nil {
		return fmt.Errorf("%w: %s", err, p.tail())
	}
	err = m.wait(ctx, "all events are committed", func(ctx context.Context) bool {
		var done float64
		for _, became := range []string{"applied", "duplicate", "dropped"} {
			m.metric(ctx, "mailtally_events_"+became+"_total", &done)
		}
		return int(done) >= met.sent
	})
	if err != nil {
		return err
	}
	got, err := queryTallies(ctx, pool, ourTallies)
	if missing := tallied(events[:met.sent]).minus(got); err == nil && missing != (tallies{}) {
		b.wrong(fmt.Sprintf("delay, %s: missing %+v", r.name, missing))
	}
	if err != nil {
		return err
	}

	var quantiles []float64
	var n int
	err = pool.QueryRow(ctx, `
SELECT percentile_cont('{.5, .99, .999}'::float8[]) WITHIN GROUP (ORDER BY extract(epoch FROM pg_xact_commit_timestamp(xmin) - occurred_at)), count(*)
  FROM mailtally.email_event WHERE occurred_at >= $1 AND occurred_at < $2`, met.from, met.until).Scan(&quantiles, &n)
	if err != nil {
		return fmt.Errorf("ask for the commits' times: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("none of the webhooks that were due while it was measured was sent: the machine is too slow for %g/s", rate)
	}
	r.add("webhooks/s", float64(met.acknowledged)/l.measured.Seconds())
	r.add("due to committed p50, ms", 1000*quantiles[0])
	r.add("due to committed p99, ms", 1000*quantiles[1])
	if n >= tailSamples {
		r.add("due to committed p99.9, ms", 1000*quantiles[2])
	}
	r.add("consumer CPU, µs", 1e6*used[0]/float64(met.acknowledged))
	r.add("PostgreSQL CPU, µs", 1e6*used[1]/float64(met.acknowledged))
	r.add("due and not sent", float64(met.unsent))
	return nil
}
