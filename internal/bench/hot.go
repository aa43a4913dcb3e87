package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
)

const hotText = `
One email that gets up to a million opens and clicks, 6 opens to a click. A row is of those of its events that it names. A round is a number of them, one after the other, and of as many first events of fresh emails, in turns; its value is their median, in milliseconds from the call to the commit, and the mean of the server's WAL. Nothing else is running.

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

	defer func() { // what there is, also after an error
		for _, t := range []table{one, many, read} {
			if len(t.Rows) > 0 {
				b.report.add(t)
			}
		}
		b.report.chart("hot", "Milliseconds an event, one by one, the more of them an email has", hotBars(one.Rows))
	}()

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

	for _, n := range []int{100, 10_000, 100_000, 1_000_000} {
		if err := h.fill(ctx, n); err != nil {
			return err
		}
		var single, batch, reading row
		from := h.events
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
		single.Name, reading.Name = nth(from, h.events), "with up to "+number(float64(h.events))
		single.quotient("this/first", "this event, ms", "first event, ms")
		one.Rows, read.Rows = append(one.Rows, single), append(read.Rows, reading)
		if n < 1_000 {
			continue
		}
		from = h.events
		for range b.rounds {
			err := h.compare(ctx, &batch, batches,
				timed{"these", h.next(1_000)},
				timed{"the first 1,000", h.first(1_000)},
				timed{"of 1,000 emails", h.ordinary(1_000)})
			if err != nil {
				return err
			}
		}
		batch.Name = nth(from, h.events)
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
	return nil
}

// nth names the events that an email gets while the number that it has goes from
// one number to another.
func nth(from, to int) string {
	return number(float64(from)) + "th to " + number(float64(to)) + "th"
}

// hotBars are the first event of an email, and then the hot one's.
func hotBars(rows []row) (bars []bar) {
	add := func(name string, ms []float64) {
		m := median(ms)
		bars = append(bars, bar{name: name, value: m, label: number(m) + " ms", own: true})
	}
	for i, r := range rows {
		if i == 0 {
			continue // of ordinary emails
		}
		if i == 1 {
			add("first", r.figure("first event, ms", "").Values)
		}
		add(r.Name, r.figure("this event, ms", "").Values)
	}
	return bars
}

// timed is a batch whose Apply is to be timed.
type timed struct {
	name string
	make func() []tracking.Event
}

// compare applies the batches in turns, n times each, and notes the median of
// each, in milliseconds, and the WAL.
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
		r.measured(t.name+", WAL, bytes/event", "", float64(logged[i])/float64(applied[i]))
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

// quotient adds a figure to r: its own of by its own by, round by round.
func (r *row) quotient(name, of, by string) {
	base := row{Figures: []figure{{Name: of, Values: r.figure(by, "").Values}}}
	r.ratio(name, of, &base)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
