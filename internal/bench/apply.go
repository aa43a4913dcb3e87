package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/internal/baseline"
)

const applyText = `
Deliveries a second from Go's memory to committed rows, redeliveries included, and WAL bytes a delivery. Each run has a fresh database after a CHECKPOINT; its final rows are checked: counts, the history, and the sums of all emails' first opens and first clicks.

- The four ways of internal/baseline: %s deliveries, an event each call, by 8 writers who take the next one.
- mailtally: %s deliveries, in batches; a writer has the emails whose id falls to it, as a consumer's partitions do.
- The limits: binary COPY of the same events, the columns of mailtally's history, in the same batches by the same writers, a transaction each, and no tally. They get the stream without its redeliveries (%s events), which COPY cannot refuse one by one: they are spared the dedupe, and their events/s are of what they wrote. Their bytes are made before the clock starts and only sent, 64 KB at a time. The key is (email_id, event_id). Each batch is in the order of arrival; mailtally sorts its batches by email, so there is one COPY whose batches are sorted by the key too, before the clock starts.

"× keyed COPY" is a ratio of times, for the same stream at the same size: the time that COPY takes for the stream's distinct events, by the time that the row takes for what it is given, which is all deliveries for mailtally.

All streams are arrival-ordered, from the same generator: 3.2 events an email, 2.8 %% redelivered. The baselines' is the shorter one, and so is their table, which is to their advantage. Where events of an email meet in a batch they are one row write: that is a good part of what large batches gain. %s

%s`

// apply measures how fast events become a tally, beside the usual ways and what
// PostgreSQL can do at all.
func apply(ctx context.Context, b *bench) error {
	few, many := 12_000, 300_000
	sizes := []size{{1_000, 1}, {1_000, 4}, {5_000, 1}, {5_000, 4}, {20_000, 4}}
	if b.full {
		few, many = 50_000, 1_500_000
		sizes = nil
		for _, batch := range []int{1_000, 5_000, 20_000} {
			for _, writers := range []int{1, 2, 4, 8} {
				sizes = append(sizes, size{batch, writers})
			}
		}
	}
	now := time.Now()
	short, long := newLoad(stream(few, now)), newLoad(stream(many, now))
	spared := newLoad(distinct(long.events))

	var list []*contender
	for _, way := range baseline.Ways() {
		list = append(list, eachEvent(way, short))
	}
	best := list[slices.IndexFunc(list, func(c *contender) bool { return c.row.Name == bestBaseline })]
	keyedCopies := make(map[size]*contender)
	for _, s := range sizes {
		list = append(list, ours(s, long))
	}
	for _, s := range sizes {
		c := keyedCopy(s, spared)
		list = append(list, c)
		keyedCopies[s] = c
	}
	list = append(list, sortedCopy(size{20_000, 4}, spared))
	for _, s := range sizes {
		if b.full || s.writers == 4 {
			list = append(list, keylessCopy(s, spared))
		}
	}

	d, err := b.postgres(ctx, "apply", nil)
	if err != nil {
		return err
	}
	defer d.stop()
	err = b.measureAll(ctx, d, list)

	// What there is, also after an error.
	t := table{Part: "apply", Title: "events to committed rows", Text: fmt.Sprintf(applyText,
		number(float64(few)), number(float64(many)), number(float64(len(spared.events))), undisturbedText, settingsText)}
	for _, c := range list {
		if len(c.took) == 0 {
			continue
		}
		c.row.ratio("× "+bestBaseline, rate, &best.row)
		if copied, ok := keyedCopies[c.size]; ok && c != copied {
			c.timeRatio("× keyed COPY", copied)
		}
		if c.row.Note = c.note(); c.row.Note != "" && c.own() {
			b.wrong("apply, " + c.row.Name + ": " + c.row.Note)
		}
		t.Rows = append(t.Rows, c.row)
	}
	if len(t.Rows) > 0 {
		b.report.add(t)
	}
	b.report.chart("apply", fmt.Sprintf("Events a second to committed rows, one PostgreSQL, %d cores for everything", b.report.Machine.Cores), applyBars(list))
	return err
}

// measureAll measures all of list in interleaved rounds.
func (b *bench) measureAll(ctx context.Context, d *database, list []*contender) error {
	for round := range b.rounds {
		for i := range list {
			c := list[(i+round*len(list)/b.rounds)%len(list)]
			if err := c.measure(ctx, d); err != nil {
				return fmt.Errorf("%s: %w", c.row.Name, err)
			}
			b.log.Info("measured", "round", round+1, "what", c.row.Name, "events/s", number(c.row.last(rate)))
		}
	}
	return nil
}

const (
	rate         = "events/s"
	wal          = "WAL, bytes/event"
	folded       = "events/row write"
	bestBaseline = "conditional-update"
)

// contender is one of the ways to write events that are compared.
type contender struct {
	row     row
	size    size                                                                      // zero for the baselines
	limit   bool                                                                      // writes the events alone, without a tally
	load    load                                                                      // what is written
	tallies string                                                                    // the SQL for its sums
	prepare func(context.Context, *pgxpool.Pool) (func(context.Context) error, error) // what is not measured, and what is
	took    []time.Duration                                                           // one a round
	lost    []tallies                                                                 // the same
}

// eachEvent is a baseline, used as a webhook handler would use it.
func eachEvent(way baseline.Way, l load) *contender {
	const writers = 8
	c := &contender{row: row{Name: way.Name}, load: l, tallies: baselineTallies}
	c.prepare = func(_ context.Context, pool *pgxpool.Pool) (func(context.Context) error, error) {
		return func(ctx context.Context) error {
			var next atomic.Int64
			return each(ctx, writers, func(ctx context.Context, _ int) error {
				for {
					i := int(next.Add(1)) - 1
					if i >= len(l.events) {
						return nil
					}
					if err := way.Apply(ctx, pool, l.events[i]); err != nil {
						return err
					}
				}
			})
		}, nil
	}
	return c
}

// ours is mailtally.
func ours(s size, l load) *contender {
	c := &contender{row: row{Name: "mailtally, " + s.String()}, size: s, load: l, tallies: ourTallies}
	c.prepare = func(_ context.Context, pool *pgxpool.Pool) (func(context.Context) error, error) {
		shares := keyed(l.events, s.writers)
		c.row.figure(folded, "").Values = []float64{float64(len(l.events)) / float64(rowWrites(shares, s.batch))}
		return func(ctx context.Context) error { return applyAll(ctx, pool, shares, s.batch) }, nil
	}
	return c
}

// measure runs c once, on a fresh database.
func (c *contender) measure(ctx context.Context, d *database) error {
	pool, err := d.fresh(ctx, 8)
	if err != nil {
		return err
	}
	defer pool.Close()
	run, err := c.prepare(ctx, pool)
	if err != nil {
		return err
	}
	if err := connectAll(ctx, pool); err != nil {
		return err
	}
	before, err := d.walBytes(ctx)
	if err != nil {
		return err
	}
	defer undisturbed()()
	start := time.Now()
	if err := run(ctx); err != nil {
		return err
	}
	took := time.Since(start)
	after, err := d.walBytes(ctx)
	if err != nil {
		return err
	}
	got, err := queryTallies(ctx, pool, c.tallies)
	if err != nil {
		return err
	}
	c.took = append(c.took, took)
	c.lost = append(c.lost, c.load.want.minus(got))
	c.row.measured(rate, "", float64(len(c.load.events))/took.Seconds())
	c.row.measured(wal, "", float64(after-before)/float64(len(c.load.events)))
	return nil
}

// timeRatio adds a figure to c: the time that another needs for its work by the
// time that c needs, round by round.
func (c *contender) timeRatio(name string, other *contender) {
	for i := range min(len(c.took), len(other.took)) {
		c.row.measured(name, "×", other.took[i].Seconds()/c.took[i].Seconds())
	}
}

// note says what c lost.
func (c *contender) note() string {
	if len(c.lost) == 0 {
		return ""
	}
	return differences(c.load.want, c.lost...)
}

// own tells whether c is mailtally.
func (c *contender) own() bool { return !c.limit && c.size.writers > 0 }

// applyBars are the figures that a reader wants first.
func applyBars(list []*contender) (bars []bar) {
	for _, c := range list {
		if c.size.writers == 1 || c.size.writers == 2 || c.size.writers == 8 {
			continue // the table has them
		}
		if c.limit && c.size.batch != 20_000 {
			continue
		}
		bars = append(bars, bar{name: c.row.Name, value: median(c.row.figure(rate, "").Values), own: c.own()})
	}
	return bars
}
