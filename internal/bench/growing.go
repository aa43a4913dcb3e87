package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// growing is a database that grows step by step.
type growing struct {
	d     *database
	pool  *pgxpool.Pool
	sizes string // the SQL for its sizes
	work  work   // of the next step
	steps []step
	start point
	wrong string // what is, in the end
}

// step is what was measured of one.
type step struct {
	work
	took  time.Duration
	wal   int64 // bytes, of this database
	sizes sizes
	end   point
}

// sizes are bytes on disk, free space included.
type sizes struct{ Tally, TallyIndexes, History, HistoryIndexes int64 }

// point is a moment in the server's WAL.
type point struct {
	events      int   // of this database so far
	wal         int64 // where the WAL ended
	redo        int64 // where recovery would begin: where the last checkpoint that is complete began
	checkpoints int64 // that had begun
}

const (
	ourSizes = `
SELECT pg_table_size('mailtally.email') + pg_table_size('mailtally.email_event_seen'),
       pg_indexes_size('mailtally.email') + pg_indexes_size('mailtally.email_event_seen'),
       (SELECT sum(pg_table_size(relid)) FROM pg_partition_tree('mailtally.email_event'))::bigint,
       (SELECT sum(pg_indexes_size(relid)) FROM pg_partition_tree('mailtally.email_event'))::bigint`
	copiedSizes = `SELECT 0::bigint, 0::bigint, pg_table_size('copied'), pg_indexes_size('copied')`
)

func (s step) rate() float64 { return float64(s.events) / s.took.Seconds() }

// begin notes where the WAL is before the first step.
func (g *growing) begin(ctx context.Context) (err error) {
	g.start, err = g.point(ctx)
	return err
}

// step does the work and measures it.
func (g *growing) step(ctx context.Context) error {
	defer undisturbed()()
	before, err := g.d.walBytes(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := g.work.write(ctx); err != nil {
		return err
	}
	s := step{work: g.work, took: time.Since(began)}
	if s.end, err = g.point(ctx); err != nil {
		return err
	}
	s.end.events += g.work.events
	s.wal = s.end.wal - before
	err = g.pool.QueryRow(ctx, g.sizes).Scan(&s.sizes.Tally, &s.sizes.TallyIndexes, &s.sizes.History, &s.sizes.HistoryIndexes)
	if err != nil {
		return err
	}
	g.work.write, s.write = nil, nil // with all that they hold
	g.steps = append(g.steps, s)
	return nil
}

// point is this moment, with the events of the steps that are noted.
func (g *growing) point(ctx context.Context) (p point, err error) {
	err = g.d.admin.QueryRow(ctx, `
		SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
		       pg_wal_lsn_diff(redo_lsn, '0/0')::bigint FROM pg_control_checkpoint()`).Scan(&p.wal, &p.redo)
	if err != nil {
		return p, err
	}
	if n := len(g.steps); n > 0 {
		p.events = g.steps[n-1].end.events
	}
	p.checkpoints, err = g.d.checkpoints(ctx)
	return p, err
}

// awaitCheckpoint waits until the checkpoint that is under way after the last
// step, if there is one, is complete: it ends a cycle. The server takes its time,
// most of checkpoint_timeout.
func (g *growing) awaitCheckpoint(ctx context.Context) error {
	last := len(g.steps)
	if int(g.steps[last-1].end.checkpoints-g.start.checkpoints) <= len(g.cycles(last)) {
		return nil
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		p, err := g.point(ctx)
		if err != nil {
			return err
		}
		if end := &g.steps[last-1].end; p.redo != end.redo {
			end.redo = p.redo
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// took is the time of the steps from from to to, without it.
func (g *growing) took(from, to int) (total time.Duration) {
	for _, s := range g.steps[from:to] {
		total += s.took
	}
	return total
}

// row is what steps from up to to, without it, came to.
func (g *growing) row(from, to int) row {
	var events, writes int
	var written int64
	var paused float64
	for _, s := range g.steps[from:to] {
		events += s.events
		writes += s.rowWrites
		written += s.wal
		paused += s.paused
	}
	r := row{Name: fmt.Sprintf("%d to %s", from, millions(to*growthStep))}
	r.measured(rate, "", float64(events)/g.took(from, to).Seconds())
	r.measured(wal, "", float64(written)/float64(events))
	last := g.steps[to-1]
	total := float64(last.end.events)
	if last.sizes.Tally > 0 {
		r.measured("tally, bytes/event", "", float64(last.sizes.Tally)/total)
		r.measured("its index, bytes/event", "", float64(last.sizes.TallyIndexes)/total)
		r.measured("history, bytes/event", "", float64(last.sizes.History)/total)
		r.measured("its index of clicks, bytes/event", "", float64(last.sizes.HistoryIndexes)/total)
	}
	sum := last.sizes.Tally + last.sizes.TallyIndexes + last.sizes.History + last.sizes.HistoryIndexes
	r.measured("disk, bytes/event", "", float64(sum)/total)
	if writes > 0 {
		r.measured(folded, "", float64(events)/float64(writes))
	}
	r.measured("checkpoints begun so far", "", float64(last.end.checkpoints-g.start.checkpoints))
	r.measured("PostgreSQL in the pauses, CPU s", "", paused)
	if g.wrong != "" {
		r.Note = "in the end " + g.wrong
	}
	return r
}

// cycles gives where the checkpoints of the first n steps began that were complete
// by the end of them, in events. It sees one that is complete by the end of a step
// and hides no other: as long as a step writes far less than there is between two
// checkpoints. Within a step WAL and events go together.
func (g *growing) cycles(n int) (list []point) {
	known := g.start.redo
	points := []point{g.start}
	for _, s := range g.steps[:n] {
		points = append(points, s.end)
		if s.end.redo == known {
			continue
		}
		known = s.end.redo
		i := slices.IndexFunc(points, func(p point) bool { return p.wal >= known })
		if i < 1 {
			continue // before the first step
		}
		a, b := points[i-1], points[i]
		within := float64(known-a.wal) / float64(b.wal-a.wal)
		list = append(list, point{events: a.events + int(within*float64(b.events-a.events)), wal: known})
	}
	return list
}

// flatness is what growth comes to: the last tenth against the second, and in the
// full form whole cycles from checkpoint to checkpoint, since a page's first
// change after a checkpoint logs the whole page.
func (g *growing) flatness(full bool) table {
	t := table{Part: "growth", Title: "late against early"}
	steps := len(g.steps)
	early, late := [2]int{1, 2}, [2]int{steps - 1, steps}
	t.Text = "The rate over the last million deliveries by that over the second. Of WAL an event this short form says nothing: it has no cycles from checkpoint to checkpoint that could be compared."
	if full {
		early, late = [2]int{steps / 10, steps / 5}, [2]int{steps - steps/10, steps}
		t.Text = "The rate over the last tenth of the deliveries by that over the second tenth. WAL an event over whole cycles, each from one checkpoint's beginning to the next one's: the last whole cycle by the one that the second tenth's middle lies in. (A page's first change after a checkpoint logs all of it, so that WAL an event over less than a cycle says little.)"
	}
	a, b := g.row(early[0], early[1]), g.row(late[0], late[1])
	r := row{Name: "rate, " + b.Name + " by " + a.Name}
	r.measured("early", "", a.last(rate))
	r.measured("late", "", b.last(rate))
	r.measured("late/early", "×", b.last(rate)/a.last(rate))
	t.Rows = append(t.Rows, r)
	if full {
		t.Rows = append(t.Rows, g.walOfCycles((early[0]+early[1])*growthStep/2))
	}
	return t
}

// walOfCycles compares the last whole cycle to the one that has so many events in
// it.
func (g *growing) walOfCycles(middle int) row {
	r := row{Name: "WAL bytes an event, whole cycles"}
	last := len(g.steps)
	ends := append([]point{g.start}, g.cycles(last)...)
	// One that began in the last steps may be under way, but for awaitCheckpoint.
	if begun := int(g.steps[last-1].end.checkpoints - g.start.checkpoints); begun > len(ends) {
		r.Note = fmt.Sprintf("not known: %d checkpoints began, of which the steps show %d", begun, len(ends)-1)
		return r
	}
	i := slices.IndexFunc(ends, func(p point) bool { return p.events > middle })
	if i < 1 || i == len(ends)-1 {
		r.Note = fmt.Sprintf("whole cycles: %d, not enough to compare two", len(ends)-1)
		return r
	}
	cycle := func(i int) (perEvent float64, name string) {
		a, b := ends[i-1], ends[i]
		return float64(b.wal-a.wal) / float64(b.events-a.events), fmt.Sprintf("from %s to %s", number(float64(a.events)), number(float64(b.events)))
	}
	early, earlyName := cycle(i)
	late, lateName := cycle(len(ends) - 1)
	r.measured("early", "", early)
	r.measured("late", "", late)
	r.measured("late/early", "×", late/early)
	r.Note = earlyName + ", and " + lateName + " deliveries"
	return r
}
