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
