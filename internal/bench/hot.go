package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

const hotText = `
One email that gets up to a million opens and clicks, 6 opens to a click. When it has as many as the row says, a round is a number of repetitions of its next events and of the same on a fresh email, in turns; the figures are the rounds' medians, in milliseconds from the call to the commit. Nothing else is running.

%s`

// hot measures whether an email's events cost more the more it has.
func hot(ctx context.Context, b *bench) error {
	d, err := b.postgres(ctx, "hot", nil)
	if err != nil {
		return err
	}
	defer d.stop()
	if err := b.millionth(ctx, d); err != nil {
		return err
	}
	return b.neighbours(ctx, d)
}

// millionth has one email get a million events, and measures on the way.
func (b *bench) millionth(ctx context.Context, d *database) error {
	singles, batches, reads := 100, 10, 2
	if b.full {
		singles, batches, reads = 300, 15, 5
	}
	pool, err := d.fresh(ctx, 8)
	if err != nil {
		return err
	}
	defer pool.Close()
	h := newHotEmail(d, pool)

	one := table{Part: "hot", Title: "one event a batch", Text: fmt.Sprintf(hotText, settingsText)}
	many := table{Part: "hot", Title: "1,000 events a batch", Text: "The same by batches: 1,000 events of the hot email; the first 1,000 of a fresh email; and 1,000 events of as many fresh emails, which is a row written for each."}
	read := table{Part: "hot", Title: "reading it", Text: "From mailtally.email_history by id: the columns but link_clicks, and link_clicks, which holds all clicks as JSON."}

	// Emails that are not crowded yet, for the difference that alone makes.
	r := row{Name: "30th (ordinary emails)"}
	for range b.rounds {
		ids := make([]uuid.UUID, singles)
		var events []tracking.Event
		for i := range ids {
			ids[i] = h.source.emailID()
			for range 29 {
				events = append(events, h.event(ids[i]))
			}
		}
		if _, err := h.store.Apply(ctx, events); err != nil {
			return err
		}
		i := -1
		if err := h.compare(ctx, &r, singles,
			timed{"this event", func() []tracking.Event { i++; return []tracking.Event{h.event(ids[i])} }},
			timed{"first event", h.first(1)},
		); err != nil {
			return err
		}
	}
	r.quotient("this/first", "this event, ms", "first event, ms")
	one.Rows = append(one.Rows, r)

	for _, n := range []int{100, 10_000, 100_000, 1_000_000} { // the repetitions in between are fewer
		if err := h.fill(ctx, n); err != nil {
			return err
		}
		name := number(float64(n)) + "th"
		single, batch, reading := row{Name: name}, row{Name: "from the " + name}, row{Name: "with " + number(float64(n))}
		for range b.rounds {
			err := h.compare(ctx, &single, singles,
				timed{"this event", h.next(1)},
				timed{"first event", h.first(1)})
			if err != nil {
				return err
			}
			if err := h.read(ctx, &reading, reads); err != nil {
				return err
			}
		}
		single.quotient("this/first", "this event, ms", "first event, ms")
		one.Rows, read.Rows = append(one.Rows, single), append(read.Rows, reading)
		if n < 1_000 {
			continue
		}
		for range b.rounds {
			err := h.compare(ctx, &batch, batches,
				timed{"these", h.next(1_000)},
				timed{"the first 1,000", h.first(1_000)},
				timed{"of 1,000 emails", h.ordinary(1_000)})
			if err != nil {
				return err
			}
		}
		batch.quotient("these/the first", "these, ms", "the first 1,000, ms")
		batch.quotient("these/of 1,000 emails", "these, ms", "of 1,000 emails, ms")
		many.Rows = append(many.Rows, batch)
		b.log.Info("measured", "events", n)
	}
	note, err := h.check(ctx)
	if err != nil {
		return err
	}
	if one.Rows[len(one.Rows)-1].Note = note; note != "" {
		b.wrong("hot: " + note)
	}
	b.report.add(one)
	b.report.add(many)
	b.report.add(read)
	return nil
}

// hotEmail is an email that many events come for.
type hotEmail struct {
	d      *database
	store  tracking.Store
	source *streamer // of random ids
	id     uuid.UUID
	events int // that it has
	clicks int
	firsts firsts
	made   int // events, of all emails
}

func newHotEmail(d *database, pool *pgxpool.Pool) *hotEmail {
	h := &hotEmail{d: d, store: tracking.Store{Pool: pool}, source: newStreamer(pace{}, time.Now().Add(-time.Hour))}
	// Other ids than those of the streams, which begin with the same draws.
	h.source.rng = rand.New(rand.NewPCG(3, 4))
	h.id = h.source.emailID()
	return h
}

// event makes a new event of an email.
func (h *hotEmail) event(id uuid.UUID) tracking.Event {
	typ := tracking.Opened
	if h.made++; h.made%7 == 0 {
		typ = tracking.Clicked
	}
	e := h.source.event(id, typ, 0)
	e.OccurredAt = e.OccurredAt.Add(time.Duration(h.made) * time.Millisecond)
	if id == h.id {
		h.firsts.take(&e)
		h.events++
		if typ == tracking.Clicked {
			h.clicks++
		}
	}
	return e
}

// next makes the next n events of the hot email.
func (h *hotEmail) next(n int) func() []tracking.Event {
	return func() []tracking.Event { return h.of(n, func() uuid.UUID { return h.id }) }
}

// first makes the first n events of a fresh email.
func (h *hotEmail) first(n int) func() []tracking.Event {
	return func() []tracking.Event {
		id := h.source.emailID()
		return h.of(n, func() uuid.UUID { return id })
	}
}

// ordinary makes one event each of n fresh emails.
func (h *hotEmail) ordinary(n int) func() []tracking.Event {
	return func() []tracking.Event { return h.of(n, h.source.emailID) }
}

func (h *hotEmail) of(n int, id func() uuid.UUID) []tracking.Event {
	events := make([]tracking.Event, n)
	for i := range events {
		events[i] = h.event(id())
	}
	return events
}

// fill has the hot email get events until it has n.
func (h *hotEmail) fill(ctx context.Context, n int) error {
	for h.events < n {
		if _, err := h.store.Apply(ctx, h.next(min(20_000, n-h.events))()); err != nil {
			return err
		}
	}
	return nil
}

// timed is a batch whose Apply is to be timed.
type timed struct {
	name string
	make func() []tracking.Event
}

// compare applies the batches in turns, n times each, and notes the median of
// each, in milliseconds, and for those of many events the WAL.
func (h *hotEmail) compare(ctx context.Context, r *row, n int, list ...timed) error {
	took, logged, applied := make([][]float64, len(list)), make([]int64, len(list)), make([]int, len(list))
	for i := range n {
		for j := range list {
			k := (i + j) % len(list)
			events := list[k].make()
			before, err := h.d.walBytes(ctx)
			if err != nil {
				return err
			}
			start := time.Now()
			if _, err := h.store.Apply(ctx, events); err != nil {
				return err
			}
			took[k] = append(took[k], milliseconds(time.Since(start)))
			after, err := h.d.walBytes(ctx)
			if err != nil {
				return err
			}
			logged[k] += after - before
			applied[k] += len(events)
		}
	}
	for i, t := range list {
		r.measured(t.name+", ms", "ms", median(took[i]))
	}
	for i, t := range list {
		if applied[i] > n {
			r.measured(t.name+", WAL, bytes/event", "", float64(logged[i])/float64(applied[i]))
		}
	}
	return nil
}

// read notes how long it takes to read what there is of the email.
func (h *hotEmail) read(ctx context.Context, r *row, n int) error {
	var tally, clicks []float64
	var size int
	for range n {
		start := time.Now()
		var count int
		err := h.store.Pool.QueryRow(ctx, "SELECT open_count + click_count FROM mailtally.email_history WHERE id = $1", h.id).Scan(&count)
		if err != nil {
			return err
		}
		tally = append(tally, milliseconds(time.Since(start)))
		var text []byte
		start = time.Now()
		if err := h.store.Pool.QueryRow(ctx, "SELECT link_clicks FROM mailtally.email_history WHERE id = $1", h.id).Scan(&text); err != nil {
			return err
		}
		clicks = append(clicks, milliseconds(time.Since(start)))
		size = len(text)
	}
	r.measured("tally, ms", "ms", median(tally))
	r.measured("link_clicks, ms", "ms", median(clicks))
	r.measured("its size, KB", "KB", float64(size)/1000)
	return nil
}

// check says what is wrong with the hot email's row, if anything.
func (h *hotEmail) check(ctx context.Context) (string, error) {
	var opens, clicks, stored int
	var opened, clicked time.Time
	err := h.store.Pool.QueryRow(ctx, `
		SELECT open_count, click_count, jsonb_array_length(link_clicks->'clicks'), opened_at, clicked_at
		  FROM mailtally.email_history WHERE id = $1`, h.id).Scan(&opens, &clicks, &stored, &opened, &clicked)
	if err != nil {
		return "", err
	}
	var got firsts
	got.take(&tracking.Event{Type: tracking.Opened, OccurredAt: opened})
	got.take(&tracking.Event{Type: tracking.Clicked, OccurredAt: clicked})
	if opens == h.events-h.clicks && clicks == h.clicks && stored == h.clicks && got == h.firsts {
		return "", nil
	}
	return fmt.Sprintf("wrong: %d opens of %d, %d clicks and %d in the history of %d, first times %v instead of %v",
		opens, h.events-h.clicks, clicks, stored, h.clicks, got, h.firsts), nil
}

// quotient adds a figure to r: its own of by its own by, round by round.
func (r *row) quotient(name, of, by string) {
	base := row{Figures: []figure{{Name: of, Values: r.figure(by, "").Values}}}
	r.ratio(name, of, &base)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
