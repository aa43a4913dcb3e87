package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/mailtally/mailtally/internal/baseline"
	"github.com/mailtally/mailtally/tracking"
)

const applyText = `
Deliveries a second from Go's memory to committed rows, redeliveries included, and WAL bytes a delivery. Each run has a fresh database after a CHECKPOINT; its final rows are checked: counts, the history, and all emails' first opens and first clicks.

- The four ways of internal/baseline: %s deliveries, an event each call, by 8 writers who take the next one.
- mailtally: %s deliveries, in batches; a writer has the emails whose id falls to it, as a consumer's partitions do.

All streams are arrival-ordered, from the same generator: 3.2 events an email, 2.8 %% redelivered. The baselines' is the shorter one, and so is their table, which is to their advantage. Where events of an email meet in a batch they are one row write: that is a good part of what large batches gain. %s

%s`

const (
	rate   = "events/s"
	wal    = "WAL, bytes/event"
	folded = "events/row write"
)

// contender is one of the compared ways to write events.
type contender struct {
	events  []tracking.Event
	want    tallies
	tallies string // the SQL for its sums
	// prepare does what is not measured, and returns what is.
	prepare func(*row, *pgxpool.Pool) (write func(context.Context) error)
}

// apply measures how fast events become a tally, compared with the usual ways.
func apply(ctx context.Context, b *bench) error {
	few, many := stream(pick(b, 12_000, 50_000), time.Now()), stream(pick(b, 300_000, 1_500_000), time.Now())
	list, rows := contenders(few, many)
	if err := b.interleave(rows, func(i int) error { return b.contend(ctx, list[i], &rows[i]) }); err != nil {
		return err
	}
	best := slices.IndexFunc(rows, func(r row) bool { return r.name == "conditional-update" })
	for i := range rows {
		rows[i].ratio("× conditional-update", rows[i].values[rate], rows[best].values[rate])
	}
	b.report.add("apply: events to committed rows", fmt.Sprintf(applyText, count(len(few)), count(len(many)), undisturbedText, settingsText), rows)
	return nil
}

// contenders are the baselines with few events, and mailtally with many.
func contenders(few, many []tracking.Event) (list []contender, rows []row) {
	wantFew, wantMany := tallied(few), tallied(many)
	for _, way := range baseline.Ways() {
		rows = append(rows, row{name: way.Name})
		list = append(list, contender{few, wantFew, baselineTallies, func(_ *row, pool *pgxpool.Pool) func(context.Context) error {
			return func(ctx context.Context) error { return eachEvent(ctx, pool, way, few) }
		}})
	}
	for _, size := range []struct{ batch, writers int }{{1_000, 1}, {1_000, 4}, {5_000, 1}, {5_000, 4}, {20_000, 4}} {
		rows = append(rows, row{name: fmt.Sprintf("mailtally, %s a batch, writers: %d", count(size.batch), size.writers)})
		list = append(list, contender{many, wantMany, ourTallies, func(r *row, pool *pgxpool.Pool) func(context.Context) error {
			shares := keyed(many, size.writers)
			r.add(folded, float64(len(many))/float64(rowWrites(shares, size.batch)))
			return func(ctx context.Context) error { return applyAll(ctx, pool, shares, size.batch) }
		}})
	}
	return list, rows
}

// contend runs c once, on a fresh database.
func (b *bench) contend(ctx context.Context, c contender, r *row) error {
	pool, err := b.db.fresh(ctx, 8)
	if err != nil {
		return err
	}
	defer pool.Close()
	took, logged, err := b.db.timed(ctx, c.prepare(r, pool))
	if err != nil {
		return err
	}
	got, err := queryTallies(ctx, pool, c.tallies)
	if err != nil {
		return err
	}
	missing := c.want.minus(got)
	if c.tallies == baselineTallies {
		r.add("events lost", float64(missing.Events))
	} else if missing != (tallies{}) {
		b.wrong(fmt.Sprintf("apply, %s: missing %+v", r.name, missing))
	}
	n := float64(len(c.events))
	r.add(rate, n/took.Seconds())
	r.add(wal, logged/n)
	return nil
}

// each runs do n times concurrently.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range n {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}

// eachEvent has 8 writers apply events one by one, as a webhook handler would.
func eachEvent(ctx context.Context, pool *pgxpool.Pool, way baseline.Way, events []tracking.Event) error {
	var next atomic.Int64
	return each(ctx, 8, func(ctx context.Context, _ int) error {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(events) {
				return nil
			}
			if err := way.Apply(ctx, pool, events[i]); err != nil {
				return err
			}
		}
	})
}

// keyed distributes events over writers by email, as Kafka's keys do over partitions.
func keyed(events []tracking.Event, writers int) [][]tracking.Event {
	shares := make([][]tracking.Event, writers)
	for w := range shares {
		shares[w] = make([]tracking.Event, 0, len(events)/writers*11/10)
	}
	for _, e := range events {
		w := int(e.EmailID[0]) % writers
		shares[w] = append(shares[w], e)
	}
	return shares
}

// applyAll has a writer apply each share, in batches.
func applyAll(ctx context.Context, pool *pgxpool.Pool, shares [][]tracking.Event, batch int) error {
	store := tracking.Store{Pool: pool}
	return each(ctx, len(shares), func(ctx context.Context, w int) error {
		for events := range slices.Chunk(shares[w], batch) {
			if _, err := store.Apply(ctx, events); err != nil {
				return err
			}
		}
		return nil
	})
}

// rowWrites is how many rows of the tally the batches write: one per email and batch.
func rowWrites(shares [][]tracking.Event, batch int) (n int) {
	for _, share := range shares {
		for events := range slices.Chunk(share, batch) {
			emails := make(map[uuid.UUID]bool, len(events))
			for i := range events {
				emails[events[i].EmailID] = true
			}
			n += len(emails)
		}
	}
	return n
}

const undisturbedText = "This program holds whole streams in memory, as no consumer does, and looking through them for garbage would be charged to what it measures: it collects before each run, and hardly in it (GOGC is 300)."

// undisturbed collects this process's garbage now, and next when the heap has grown
// fourfold. It returns a function that undoes that.
func undisturbed() (undo func()) {
	runtime.GC()
	before := debug.SetGCPercent(300)
	return func() { debug.SetGCPercent(before) }
}
