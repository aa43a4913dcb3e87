package tracking_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// row is what an application sees of an email, in mailtally.email_history.
type row struct {
	ID                    uuid.UUID
	ProviderEmailID       *string
	First                 [11]*time.Time // by tracking.Type
	LastOpened            *time.Time
	LastClicked           *time.Time
	OpenCount, ClickCount int
	Links                 []string // of the history, in event-time order
	Events                int      // rows of the history
}

// model is the tally as a pure fold over a set of events, in plain Go: what the
// database must contain, in whatever order and batches they came.
func model(events []tracking.Event) map[uuid.UUID]row {
	type identity struct {
		email uuid.UUID
		event string
	}
	known := make(map[identity]bool)
	byEmail := make(map[uuid.UUID][]tracking.Event)
	for _, e := range events {
		if id := (identity{e.EmailID, e.EventID}); !known[id] {
			known[id] = true
			byEmail[e.EmailID] = append(byEmail[e.EmailID], e)
		}
	}
	rows := make(map[uuid.UUID]row)
	for id, list := range byEmail {
		slices.SortFunc(list, func(a, b tracking.Event) int {
			return cmp.Or(a.OccurredAt.Compare(b.OccurredAt), cmp.Compare(a.EventID, b.EventID))
		})
		r := row{ID: id, Events: len(list), Links: []string{}}
		for _, e := range list {
			at := e.OccurredAt
			if e.ProviderEmailID != "" {
				r.ProviderEmailID = &e.ProviderEmailID
			}
			if r.First[e.Type] == nil {
				r.First[e.Type] = &at
			}
			switch e.Type {
			case tracking.Opened:
				r.OpenCount++
				r.LastOpened = &at
			case tracking.Clicked:
				r.ClickCount++
				r.LastClicked = &at
				r.Links = append(r.Links, e.Link)
			}
		}
		rows[id] = r
	}
	return rows
}

// stored is what the database contains, for all emails.
func stored(ctx context.Context, t require, pool *pgxpool.Pool) map[uuid.UUID]row {
	t.Helper()
	rows, err := pool.Query(ctx, `
		SELECT id, provider_email_id, scheduled_at, sent_at, delivered_at, delivery_delayed_at, opened_at, clicked_at,
		       bounced_at, complained_at, failed_at, suppressed_at, last_opened_at, last_clicked_at,
		       open_count, click_count, link_clicks,
		       (SELECT count(*) FROM mailtally.email_event WHERE email_id = id)
		  FROM mailtally.email_history`)
	if err != nil {
		t.Fatalf("%v", err)
	}
	all := make(map[uuid.UUID]row)
	_, err = pgx.CollectRows(rows, func(in pgx.CollectableRow) (struct{}, error) {
		r := row{Links: []string{}}
		var links []byte
		err := in.Scan(&r.ID, &r.ProviderEmailID, &r.First[1], &r.First[2], &r.First[3], &r.First[4], &r.First[5], &r.First[6],
			&r.First[7], &r.First[8], &r.First[9], &r.First[10], &r.LastOpened, &r.LastClicked,
			&r.OpenCount, &r.ClickCount, &links, &r.Events)
		if err != nil {
			return struct{}{}, err
		}
		var clicks struct {
			Clicks []struct {
				Link string
			}
			TotalClicks int
		}
		if err := json.Unmarshal(links, &clicks); err != nil {
			return struct{}{}, err
		}
		if clicks.TotalClicks != r.ClickCount {
			return struct{}{}, fmt.Errorf("link_clicks has totalClicks %d, click_count is %d", clicks.TotalClicks, r.ClickCount)
		}
		for _, c := range clicks.Clicks {
			r.Links = append(r.Links, c.Link)
		}
		all[r.ID] = r
		return struct{}{}, nil
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return all
}

// require is the part of testing.T that rapid.T has too.
type require interface {
	Helper()
	Fatalf(format string, args ...any)
}

// compare fails unless the database agrees with the model about the events' emails.
func compare(ctx context.Context, t require, pool *pgxpool.Pool, events []tracking.Event) {
	t.Helper()
	got := stored(ctx, t, pool)
	for id, want := range model(events) {
		if g, w := describe(got[id]), describe(want); g != w {
			t.Fatalf("email %v\n got %s\nwant %s", id, g, w)
		}
	}
}

// describe is r as text, with the pointers' values.
func describe(r row) string {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// totals sums results.
type totals struct {
	applied, duplicate, firstOpens, firstClicks int
}

func (s *totals) add(r tracking.Result) {
	s.applied += r.Applied.Sum()
	s.duplicate += r.Duplicate.Sum()
	s.firstOpens += r.FirstOpens
	s.firstClicks += r.FirstClicks
}

// expected is what all results must add up to, for events that contain repeats.
func expected(events []tracking.Event) totals {
	var want totals
	for _, r := range model(events) {
		want.applied += r.Events
		if r.OpenCount > 0 {
			want.firstOpens++
		}
		if r.ClickCount > 0 {
			want.firstClicks++
		}
	}
	want.duplicate = len(events) - want.applied
	return want
}

func apply(ctx context.Context, t testing.TB, store *tracking.Store, events ...tracking.Event) tracking.Result {
	t.Helper()
	result, err := store.Apply(ctx, events)
	if err != nil {
		t.Fatal(err)
	}
	return result
}
