package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

const growthText = `
A sender of a million emails a day from its first one on: 3.2 events an email, delivered within minutes and opened within minutes to three days, logarithmically spread; 2.8 %% of the deliveries are repeats, a fifth of those 1 to 7 days late. All of it comes in the order of arrival, in batches of 20,000 by 4 writers keyed by email, autovacuum on. %d million deliveries in one pass, a million at a time, each made before the clock starts. %s The final counts are checked. Events are deliveries here: events/s, WAL and row writes are those of a row's own millions, bytes on disk those of tables and indexes by all deliveries so far. "To the second" is the rate by the second row's, when the tables are small.

The pauses in which the next million is made are not in the time, and the server goes on in them with checkpoints and autovacuum. It is a fresh one, whose first WAL segments are new files, which makes the figures of the first 8 GB of WAL worse. %s`

// growthPace makes 3.2 million deliveries a day.
var growthPace = pace{27 * time.Millisecond, 9.6e6, 3.2e6, 22.4e6}

// ourSizes are bytes on disk: tally, its indexes, history, its indexes.
const ourSizes = `
SELECT pg_table_size('mailtally.email') + pg_table_size('mailtally.email_event_seen'),
       pg_indexes_size('mailtally.email') + pg_indexes_size('mailtally.email_event_seen'),
       (SELECT sum(pg_table_size(relid)) FROM pg_partition_tree('mailtally.email_event'))::bigint,
       (SELECT sum(pg_indexes_size(relid)) FROM pg_partition_tree('mailtally.email_event'))::bigint`

// growth measures whether the rate, the WAL and the disk space per event stay the same
// while the tables grow.
func growth(ctx context.Context, b *bench) error {
	pool, err := b.db.fresh(ctx, 4)
	if err != nil {
		return err
	}
	defer pool.Close()
	// Long enough ago for 50 million deliveries, and in the month before this one at
	// the earliest, which has a partition.
	g := grower{d: b.db, pool: pool, source: newStreamer(growthPace, time.Now().AddDate(0, 0, -20))}
	rows, each := make([]row, pick(b, 5, 10)), pick(b, 1, 5)
	for i := range rows {
		r := &rows[i]
		r.name = fmt.Sprintf("%d to %d million", i*each, (i+1)*each)
		if err := g.grow(ctx, r, each); err != nil {
			return err
		}
		b.log.Info("grown", "what", r.String())
	}
	for i := range rows {
		rows[i].ratio("to the second", rows[i].values[rate], rows[1].values[rate])
	}
	b.report.add(fmt.Sprintf("growth: from nothing to %d million", len(rows)*each),
		fmt.Sprintf(growthText, len(rows)*each, undisturbedText, settingsText), rows)
	got, err := queryTallies(ctx, pool, ourTallies)
	// The first times are left out, which nobody knows without holding all emails.
	if missing := g.want.minus(got.counts()); err == nil && missing != (tallies{}) {
		b.wrong(fmt.Sprintf("growth: missing %+v", missing))
	}
	return err
}

// grower is a database that grows.
type grower struct {
	d      *database
	pool   *pgxpool.Pool
	source *streamer
	want   tallies
	events float64 // so far
}

// grow applies that many millions of the stream, and adds the cost to r.
func (g *grower) grow(ctx context.Context, r *row, millions int) error {
	const batch, writers = 20_000, 4
	var took time.Duration
	var logged float64
	writes := 0
	for range millions {
		events := make([]tracking.Event, 1_000_000)
		for i := range events {
			a := g.source.next()
			events[i] = a.delivered()
			if a.repeat {
				continue
			}
			g.want.add(a.event)
			if a.event.Type == tracking.Sent { // once an email, before all else
				g.want.Emails++
			}
		}
		shares := keyed(events, writers)
		writes += rowWrites(shares, batch)
		t, n, err := g.d.timed(ctx, func(ctx context.Context) error { return applyAll(ctx, g.pool, shares, batch) })
		if err != nil {
			return err
		}
		took += t
		logged += n
	}
	var bytes [4]float64
	if err := g.pool.QueryRow(ctx, ourSizes).Scan(&bytes[0], &bytes[1], &bytes[2], &bytes[3]); err != nil {
		return err
	}
	n := float64(millions) * 1e6
	g.events += n
	r.add(rate, n/took.Seconds())
	r.add(wal, logged/n)
	for i, name := range []string{"tally", "its index", "history", "its index of clicks"} {
		r.add(name+", bytes/event", bytes[i]/g.events)
	}
	r.add("disk, bytes/event", (bytes[0]+bytes[1]+bytes[2]+bytes[3])/g.events)
	r.add(folded, n/float64(writes))
	return nil
}
