package baseline_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// history is what an application reads about an email, whichever way counted. Tests
// give each click a link of its own, to recognize it by.
type history struct {
	ID          uuid.UUID
	First       []*time.Time // as tracking.Types
	OpenCount   int
	ClickCount  int
	TotalClicks int
	Links       []string // sorted
}

// The relations that hold it.
const (
	theirs = "baseline.email_history"
	ours   = "mailtally.email_history"
)

// histories reads all emails of a relation.
func histories(t *testing.T, pool *pgxpool.Pool, relation string) map[uuid.UUID]history {
	t.Helper()
	rows, err := pool.Query(t.Context(), `
		SELECT id,
		       ARRAY[scheduled_at, sent_at, delivered_at, delivery_delayed_at, opened_at, clicked_at,
		             bounced_at, complained_at, failed_at, suppressed_at],
		       open_count, click_count, (link_clicks->>'totalClicks')::int,
		       ARRAY(SELECT c->>'link' FROM jsonb_array_elements(link_clicks->'clicks') AS c ORDER BY 1)
		  FROM `+relation)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[history])
	if err != nil {
		t.Fatal(err)
	}
	byID := make(map[uuid.UUID]history, len(list))
	for _, h := range list {
		byID[h.ID] = h
	}
	return byID
}

// expected is what should be stored after events: a fold over the distinct ones.
func expected(events []tracking.Event) map[uuid.UUID]history {
	type id struct {
		email uuid.UUID
		event string
	}
	known := make(map[id]bool)
	want := make(map[uuid.UUID]history)
	for _, e := range events {
		if known[id{e.EmailID, e.EventID}] {
			continue
		}
		known[id{e.EmailID, e.EventID}] = true
		h, ok := want[e.EmailID]
		if !ok {
			h = history{ID: e.EmailID, First: make([]*time.Time, len(tracking.Types()))}
		}
		if first := &h.First[e.Type-1]; *first == nil || e.OccurredAt.Before(**first) {
			*first = &e.OccurredAt
		}
		switch e.Type {
		case tracking.Opened:
			h.OpenCount++
		case tracking.Clicked:
			h.ClickCount++
			h.TotalClicks++
			h.Links = append(h.Links, e.Link)
		}
		want[e.EmailID] = h
	}
	for _, h := range want {
		slices.Sort(h.Links)
	}
	return want
}

// differences says in words what is missing from got, or too much.
func differences(got, want map[uuid.UUID]history) (list []string) {
	for id, w := range want {
		g, ok := got[id]
		if !ok {
			list = append(list, fmt.Sprintf("email %s: lost as a whole", id))
			continue
		}
		say := func(format string, args ...any) {
			list = append(list, fmt.Sprintf("email %s: ", id)+fmt.Sprintf(format, args...))
		}
		for i, typ := range tracking.Types() {
			if g, w := clock(g.First[i]), clock(w.First[i]); g != w {
				say("first %s at %s, should be %s", typ, g, w)
			}
		}
		for _, link := range w.Links {
			if !slices.Contains(g.Links, link) {
				say("lost the click on %s", link)
			}
		}
		if len(g.Links) > len(w.Links) {
			say("%d clicks stored, should be %d", len(g.Links), len(w.Links))
		}
		for _, n := range []struct {
			name      string
			got, want int
		}{
			{"open_count", g.OpenCount, w.OpenCount},
			{"click_count", g.ClickCount, w.ClickCount},
			{"totalClicks", g.TotalClicks, w.TotalClicks},
		} {
			if n.got != n.want {
				say("%s %d, should be %d", n.name, n.got, n.want)
			}
		}
	}
	for id := range got {
		if _, ok := want[id]; !ok {
			list = append(list, fmt.Sprintf("email %s: from nowhere", id))
		}
	}
	slices.Sort(list)
	return list
}

func clock(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.UTC().Format("15:04:05.999999")
}
