package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

const growthText = `
A sender of a million emails a day from its first one on: 3.2 events an email, delivered within minutes and opened within minutes to three days, logarithmically spread; 2.8 %% of the deliveries are repeats, a fifth of those 1 to 7 days late. All of it comes in the order of arrival, in batches of 20,000 by 4 writers keyed by email, autovacuum on. %s deliveries in one pass, a million at a time, each made before the clock starts. %s The final counts are checked. Events are deliveries here: events/s, WAL and row writes are those of a row's own millions, bytes on disk those of tables and indexes by all deliveries so far.

The pauses in which the next million is made are not in the time, and the server goes on in them with checkpoints and autovacuum, which with less to do would be in the way of the next million: the CPU time that it uses in the pauses before a row's millions is a figure of its own.

%s %s`

const growthCopyText = `
The same stream in one pass into two databases of one server, each million first into the one and then into the other, in turns: mailtally; and binary COPY into a table with PRIMARY KEY (email_id, event_id), which is spared the redeliveries. mailtally's figures are of all deliveries that it is given, COPY's of the events that it writes, fewer by the redeliveries. "× keyed COPY" is a ratio of times for the same millions of the stream: the time that COPY takes for their distinct events, by the time that mailtally takes for all of their deliveries. PostgreSQL's CPU time in the pauses is for both.`

// growthSize is how growth's events are written.
var growthSize = size{20_000, 4}

const (
	growthStep = 1_000_000
	// growthStart is long enough ago for 50 million deliveries of a million emails
	// a day, and not before the partitions of the month before this one.
	growthStart = 20 * 24 * time.Hour
)

// growthPace makes 3.2 million deliveries a day.
var growthPace = pace{27 * time.Millisecond, 9.6e6, 3.2e6, 22.4e6}

// growth measures whether the rate, the WAL and the bytes on disk of an event
// stay what they are while the tables grow.
func growth(ctx context.Context, b *bench) error {
	upTo, show, extra := 5*growthStep, 1, map[string]string{"max_wal_size": "512MB", "min_wal_size": "256MB"}
	notice := "In this short form max_wal_size is 512 MB and min_wal_size 256 MB, so that there are checkpoints at all, and far more often than they should be; the server is a fresh one, whose first WAL segments are new files. It says little of large tables."
	if b.full {
		upTo, show, extra = 50*growthStep, 5, nil
		notice = "Before the first delivery max_wal_size of WAL is written, so that segments are there to be used again, as on a server that has run for a while: new files are slower, and would make the early figures worse than the late ones."
	}
	alone, err := b.grow(ctx, growthRun{name: "growth", upTo: upTo, extra: extra, wholeCycles: b.full})
	// What there is, also after an error.
	t := table{Part: "growth", Title: "from nothing to " + millions(upTo), Text: fmt.Sprintf(growthText, millions(upTo), undisturbedText, settingsText, notice)}
	var bars []bar
	for i := 0; i+show <= alone.steps(); i += show {
		r := alone.ours.row(i, i+show)
		t.Rows = append(t.Rows, r)
		bars = append(bars, bar{name: r.Name, value: r.last(rate), own: true})
	}
	if len(t.Rows) > 0 {
		b.report.add(t)
	}
	b.report.chart("growth", "Events a second as the tables grow", bars)
	if err != nil {
		return err
	}
	b.report.add(alone.ours.flatness(b.full))

	// COPY beside it, up to half of that. Apart, since two databases in one server
	// share its cache: that would make the figures above smaller in their first half
	// than in the second.
	if upTo = 2 * growthStep; b.full {
		upTo = 25 * growthStep
	}
	both, err := b.grow(ctx, growthRun{name: "growth-copy", upTo: upTo, extra: extra, beside: true})
	t = table{Part: "growth", Title: "beside COPY into a keyed table", Text: growthCopyText}
	for i := 0; i+show <= both.steps(); i += show {
		r, copied := both.ours.row(i, i+show), both.copied.row(i, i+show)
		r.measured("× keyed COPY", "×", both.copied.took(i, i+show).Seconds()/both.ours.took(i, i+show).Seconds())
		r.measured("keyed COPY, events/s", "", copied.last(rate))
		r.measured("keyed COPY, WAL, bytes/event", "", copied.last(wal))
		r.measured("keyed COPY, disk, bytes/event", "", copied.last("disk, bytes/event"))
		t.Rows = append(t.Rows, r)
	}
	if len(t.Rows) > 0 {
		b.report.add(t)
	}
	return err
}

// grown is what was measured of the databases that grew.
type grown struct{ ours, copied *growing }

// steps is how many all of them have done.
func (g grown) steps() int {
	switch {
	case g.ours == nil:
		return 0 // it has not come so far
	case g.copied == nil:
		return len(g.ours.steps)
	default:
		return min(len(g.ours.steps), len(g.copied.steps))
	}
}

// growthRun is a database that is to grow.
type growthRun struct {
	name        string
	upTo        int               // deliveries
	extra       map[string]string // settings
	beside      bool              // copy the stream into another one as well, in turns
	wholeCycles bool              // wait for the checkpoint that is under way in the end
}

// grow applies the stream to a fresh database.
func (b *bench) grow(ctx context.Context, run growthRun) (g grown, err error) {
	d, err := b.postgres(ctx, run.name, run.extra)
	if err != nil {
		return g, err
	}
	defer d.stop()
	pool, err := d.fresh(ctx, int32(growthSize.writers))
	if err != nil {
		return g, err
	}
	defer pool.Close()
	g.ours = &growing{d: d, pool: pool, sizes: ourSizes}
	all := []*growing{g.ours}
	if run.beside {
		other, err := d.another(ctx, "copied", int32(growthSize.writers))
		if err != nil {
			return g, err
		}
		defer other.Close()
		if _, err := other.Exec(ctx, fmt.Sprintf(createCopied, emailKey)); err != nil {
			return g, err
		}
		g.copied = &growing{d: d, pool: other, sizes: copiedSizes}
		all = append(all, g.copied)
	}
	if b.full {
		if err := d.prime(ctx); err != nil {
			return g, err
		}
	}
	for _, one := range all {
		if err := connectAll(ctx, one.pool); err != nil {
			return g, err
		}
		if err := one.begin(ctx); err != nil {
			return g, err
		}
	}

	s := newStreamer(growthPace, time.Now().Add(-growthStart))
	var want tallies
	for step := range run.upTo / growthStep {
		before := d.cpuSeconds()
		events := make([]tracking.Event, growthStep)
		var spared []tracking.Event
		for i := range events {
			a := s.next()
			events[i] = a.delivered()
			if !a.repeat {
				want.add(a.event)
				if run.beside {
					spared = append(spared, *a.event)
				}
			}
		}
		g.ours.work = applyWork(pool, events)
		if run.beside {
			g.copied.work = copyWork(g.copied.pool, spared)
		}
		g.ours.work.paused = d.cpuSeconds() - before
		for i := range all {
			one := all[(i+step)%len(all)]
			if err := one.step(ctx); err != nil {
				return g, err
			}
			b.log.Info("grown", "millions", step+1, "copied", one == g.copied, "events/s", number(one.steps[step].rate()))
		}
	}
	if run.wholeCycles {
		if err := g.ours.awaitCheckpoint(ctx); err != nil {
			return g, err
		}
	}
	if g.ours.wrong, err = wrongCounts(ctx, pool, want, ourTallies); err != nil {
		return g, err
	}
	if g.ours.wrong != "" {
		b.wrong(run.name + ": " + g.ours.wrong)
	}
	if run.beside {
		g.copied.wrong, err = wrongCounts(ctx, g.copied.pool, want, copiedTallies)
	}
	return g, err
}

// work is a step's: how many events, how many writes of a tally's row they come
// to, and what writes them; and the CPU seconds that the server used in the pause
// before.
type work struct {
	events    int
	rowWrites int
	write     func(context.Context) error
	paused    float64
}

func applyWork(pool *pgxpool.Pool, events []tracking.Event) work {
	shares := keyed(events, growthSize.writers)
	return work{events: len(events), rowWrites: rowWrites(shares, growthSize.batch), write: func(ctx context.Context) error {
		return applyAll(ctx, pool, shares, growthSize.batch)
	}}
}

func copyWork(pool *pgxpool.Pool, events []tracking.Event) work {
	shares := copyShares(events, growthSize, false)
	return work{events: len(events), write: func(ctx context.Context) error { return copyAll(ctx, pool, shares) }}
}

// add counts an event that did not come before, of a stream in which an email
// is sent before all else.
func (t *tallies) add(e *tracking.Event) {
	t.Events++
	switch e.Type {
	case tracking.Sent:
		t.Emails++
	case tracking.Opened:
		t.Opens++
	case tracking.Clicked:
		t.Clicks++
		t.ClicksStored++
	}
}

// wrongCounts says how the database's counts differ from want: "" if they do not.
// The first times are left out, which add cannot know without holding all emails.
func wrongCounts(ctx context.Context, pool *pgxpool.Pool, want tallies, sql string) (string, error) {
	got, err := queryTallies(ctx, pool, sql)
	return differences(want, want.minus(got.counts())), err
}

// millions writes a number of events.
func millions(n int) string { return fmt.Sprintf("%d million", n/growthStep) }
