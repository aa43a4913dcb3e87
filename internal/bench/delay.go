package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/mailtally/mailtally/internal/simulate"
	"github.com/mailtally/mailtally/tracking"
)

var delayRates = []int{200, 2000, 10_000}

const delayText = "Producer and one consumer with their default settings, one broker, PostgreSQL and the load generator share the machine. Signed webhooks of 1 KB, of events out of the middle of an arrival-ordered stream, fall due at random moments (a Poisson process) from 256 senders that do not wait for each other. " +
	"*Received to committed* is the consumer's own histogram (buckets 9 %% apart): until PostgreSQL has answered the commit. *Due to committed* is seen from outside, from the moment when a webhook was to be sent to PostgreSQL's commit time stamp of its row (which costs PostgreSQL track_commit_timestamp). That stamp is taken before the WAL is flushed, so the commit's own fsync is not in it. p99.9 is left out where fewer than %s were measured. The final rows are checked against what was sent. %s %s"

// delayPart measures the time from a webhook to its committed row.
func delayPart(ctx context.Context, b *bench) error {
	broker, err := b.kafka(ctx, "delay", 1)
	if err != nil {
		return err
	}
	defer broker.stop()
	d, err := b.postgres(ctx, "delay", map[string]string{"track_commit_timestamp": "on"})
	if err != nil {
		return err
	}
	defer d.stop()
	t := table{Part: "delay", Title: "from a webhook to its committed row", Rows: make([]row, len(delayRates)),
		Text: fmt.Sprintf(delayText, number(tailSamples), settingsText, kafkaText)}
	// What is first after a start is not measured: the broker's Java compiles.
	if err := b.delayAt(ctx, broker, d, 2000, &row{Name: "warm-up"}, "warm-up"); err != nil {
		return err
	}
	for round := range b.rounds {
		for k := range delayRates {
			i := (k + round) % len(delayRates)
			rate := delayRates[i]
			t.Rows[i].Name = number(float64(rate)) + "/s"
			if err := b.delayAt(ctx, broker, d, rate, &t.Rows[i], fmt.Sprintf("delay-%d-%d", round, rate)); err != nil {
				return fmt.Errorf("%d/s: %w", rate, err)
			}
		}
	}
	b.report.add(t)
	var bars []bar
	for i := range t.Rows {
		for _, q := range delayQuantiles[:2] {
			value := median(t.Rows[i].figure(receivedToCommitted+q.name, "").Values)
			bars = append(bars, bar{name: t.Rows[i].Name + ", " + q.name, value: value, label: number(value) + " ms", own: true})
		}
	}
	b.report.chart("delay", "From a webhook's receipt to its committed row", bars)
	return nil
}

// delayAt does a run at one rate and adds its figures to the row.
func (b *bench) delayAt(ctx context.Context, broker *kafka, d *database, rate int, r *row, name string) error {
	pool, err := d.fresh(ctx, 4)
	if err != nil {
		return err
	}
	defer pool.Close()
	t, err := newTopics(ctx, broker, name)
	if err != nil {
		return err
	}
	defer t.drop(ctx)
	g, err := b.gateway(ctx, t)
	if err != nil {
		return err
	}
	defer g.stop()
	m, err := b.startMember(ctx, t.name, d.URL("bench"), t.env())
	if err != nil {
		return err
	}
	defer m.stop()
	if err := m.ready(ctx, "http://"+m.admin+"/readyz"); err != nil {
		return err
	}

	l := generator{addr: g.addr, connections: 256, rate: float64(rate), warmup: 2 * time.Second, measured: 4 * time.Second}
	if b.full {
		l.measured = 30 * time.Second
	}
	events := steady(1000+int(1.2*l.rate*(l.warmup+l.measured).Seconds()), time.Now())
	if l.request, err = g.webhooksOf(events); err != nil {
		return err
	}
	var warm metricFamilies
	scraping, scrapingCtx := errgroup.WithContext(ctx)
	scraping.Go(func() (err error) {
		select {
		case <-time.After(l.warmup):
			warm, err = m.scrape(ctx)
			return err
		case <-scrapingCtx.Done():
			return scrapingCtx.Err()
		}
	})
	met, err := l.run(ctx)
	if err != nil {
		return fmt.Errorf("%w: %s", err, g.tail())
	}
	sent := met.accepted()
	if sent < total(met.answers) {
		return fmt.Errorf("answers by status: %v", met.answers)
	}
	if err := scraping.Wait(); err != nil {
		return err
	}
	end, err := m.consumed(ctx, sent)
	if err != nil {
		return err
	}
	const metric = "mailtally_event_delay_seconds"
	before, err := warm.native(metric)
	if err != nil {
		return err
	}
	after, err := end.native(metric)
	if err != nil {
		return err
	}
	delay := after.minus(before)
	got, err := queryTallies(ctx, pool, ourTallies)
	if err != nil {
		return err
	}
	if missing := tallied(events[:sent]).minus(got); missing != (tallies{}) {
		wrong := fmt.Sprintf("missing %+v", missing)
		r.remark("Wrong: " + wrong + ".")
		b.wrong(fmt.Sprintf("delay, %s: %s", r.Name, wrong))
	}
	outside, of, err := commitDelays(ctx, pool, met.from, met.until)
	if err != nil {
		return err
	}

	r.measured("webhooks/s", "", float64(met.acknowledged)/l.measured.Seconds())
	for _, q := range delayQuantiles {
		r.figure(receivedToCommitted+q.name, "ms") // its column, even without a value
		if delay.count() >= q.samples {
			r.measured(receivedToCommitted+q.name, "ms", 1000*delay.quantile(q.of))
		}
	}
	for i, q := range delayQuantiles {
		r.figure("due to committed "+q.name, "ms")
		if of >= q.samples {
			r.measured("due to committed "+q.name, "ms", 1000*outside[i])
		}
	}
	if met.unsent > 0 {
		r.remark(fmt.Sprintf("%d were due and not sent: they are in none of the figures.", met.unsent))
	}
	return nil
}

const receivedToCommitted = "received to committed "

var delayQuantiles = []struct {
	name    string
	of      float64
	samples int64 // that it takes
}{{"p50", .5, 1}, {"p99", .99, 1}, {"p99.9", .999, tailSamples}}

// commitDelays are those quantiles, in seconds, of the time from an event to its
// commit, of the events in that time, and how many these are.
func commitDelays(ctx context.Context, pool *pgxpool.Pool, from, until time.Time) (quantiles []float64, n int64, err error) {
	var of []float64
	for _, q := range delayQuantiles {
		of = append(of, q.of)
	}
	err = pool.QueryRow(ctx, `
SELECT percentile_cont($1::float8[]) WITHIN GROUP (ORDER BY extract(epoch FROM pg_xact_commit_timestamp(xmin) - occurred_at)), count(*)
  FROM mailtally.email_event WHERE occurred_at >= $2 AND occurred_at < $3`, of, from, until).Scan(&quantiles, &n)
	return quantiles, n, err
}

// webhooksOf gives requests with the webhooks of events, written and signed when
// they are due, which is also the event's time: of its first delivery, if it has
// more.
func (g *gateway) webhooksOf(events []tracking.Event) (func(int, time.Time) []byte, error) {
	signer, err := simulate.NewSigner(webhookSecret)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]int, len(events))
	var request []byte
	return func(i int, due time.Time) []byte {
		e := &events[i]
		e.OccurredAt = due
		if first, repeated := seen[e.EventID]; repeated {
			e.OccurredAt = events[first].OccurredAt
		} else {
			seen[e.EventID] = i
		}
		w := simulate.Webhook{ID: e.EventID, Body: resendBody(e)}
		request = appendRequest(request[:0], g.addr, webhookPath, signer.Header(w, due), w.Body, false)
		return request
	}, nil
}

// consumed waits until the member has consumed so many events, and gives its
// metrics.
func (m *member) consumed(ctx context.Context, n int) (metricFamilies, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		families, err := m.scrape(ctx)
		if err != nil {
			return nil, err
		}
		consumed := int(families.sum("mailtally_events_consumed_total"))
		if consumed >= n {
			return families, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("the consumer has consumed %d of %d events: %w: %s", consumed, n, ctx.Err(), m.tail())
		}
	}
}
