package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
)

const hotText = `
One email that gets up to a million opens and clicks, 6 opens to a click. A row is of those of its events that it names. A round is %d of its events, each a batch of its own, and as many first events of fresh emails, in turns; then %d batches of 1,000 of its events, of the first 1,000 of a fresh email, and of one event each of 1,000 fresh emails. Its value is their median, in milliseconds from the call to the commit. Nothing else is running. The final counts are checked.

%s`

// hot measures whether an email's events cost more the more events it has.
func hot(ctx context.Context, b *bench) error {
	pool, err := b.db.fresh(ctx, 8)
	if err != nil {
		return err
	}
	defer pool.Close()
	h := &hotEmails{store: tracking.Store{Pool: pool}, source: newStreamer(pace{}, time.Now().Add(-time.Hour))}
	// Other ids than those of the streams, which begin with the same draws.
	h.source.rng = rand.New(rand.NewPCG(3, 4))
	id := h.fresh()
	one := func() func() uuid.UUID { return func() uuid.UUID { return id } }
	fresh := func() func() uuid.UUID { id := h.fresh(); return func() uuid.UUID { return id } }
	singles, batches := pick(b, 100, 300), pick(b, 10, 15)

	var rows []row
	has := 0 // events of the one
	for _, n := range []int{0, 100_000, 1_000_000} {
		for ; has < n; has += min(20_000, n-has) {
			if _, err := h.apply(ctx, min(20_000, n-has), one()); err != nil {
				return err
			}
		}
		from := has
		var r row
		for range b.rounds {
			// Each kind names whose the events of a batch are.
			err := h.inTurns(ctx, &r, singles, 1, []string{"its event, ms", "a first event, ms"}, one, fresh)
			if err == nil {
				err = h.inTurns(ctx, &r, batches, 1_000, []string{"its 1,000, ms", "a first 1,000, ms", "of 1,000 emails, ms"}, one, fresh, func() func() uuid.UUID { return h.fresh })
			}
			if err != nil {
				return err
			}
			has += singles + 1_000*batches
		}
		r.name = count(from) + "th to " + count(has) + "th"
		r.ratio("its/first", r.values["its event, ms"], r.values["a first event, ms"])
		r.ratio("its/first, 1,000", r.values["its 1,000, ms"], r.values["a first 1,000, ms"])
		rows = append(rows, r)
		b.log.Info("measured", "what", r.String())
	}
	b.report.add("hot: an email with many events", fmt.Sprintf(hotText, singles, batches, settingsText), rows)
	got, err := queryTallies(ctx, pool, ourTallies)
	if missing := h.want.minus(got.counts()); err == nil && missing != (tallies{}) {
		b.wrong(fmt.Sprintf("hot: missing %+v", missing))
	}
	return err
}

// hotEmails makes events of given emails, and applies them.
type hotEmails struct {
	store  tracking.Store
	source *streamer // of random ids
	want   tallies
}

// fresh is an email that has no events.
func (h *hotEmails) fresh() uuid.UUID {
	h.want.Emails++
	return h.source.emailID()
}

// inTurns applies batches of that size, n of each kind in turn, and adds the median
// time of each kind to r.
func (h *hotEmails) inTurns(ctx context.Context, r *row, n, size int, names []string, kinds ...func() func() uuid.UUID) error {
	took := make([][]float64, len(kinds))
	for i := range n {
		for j := range kinds {
			k := (i + j) % len(kinds)
			ms, err := h.apply(ctx, size, kinds[k]())
			if err != nil {
				return err
			}
			took[k] = append(took[k], ms)
		}
	}
	for k, name := range names {
		r.add(name, median(took[k]))
	}
	return nil
}

// apply applies a batch of n new events of those emails, and returns how long that
// took, in ms.
func (h *hotEmails) apply(ctx context.Context, n int, email func() uuid.UUID) (float64, error) {
	events := make([]tracking.Event, n)
	for i := range events {
		typ := tracking.Opened
		if h.want.Events%7 == 0 {
			typ = tracking.Clicked
		}
		events[i] = h.source.event(email(), typ, 0)
		h.want.add(&events[i])
	}
	start := time.Now()
	_, err := h.store.Apply(ctx, events)
	return ms(time.Since(start)), err
}
