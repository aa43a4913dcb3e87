package main

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// tallies are sums over all emails. If a run's tallies are not those of its stream, it
// has lost events or counted them twice.
type tallies struct {
	Emails, Events, Opens, Clicks int
	// Sums of all emails' first times, in microseconds modulo timesModulo, so that no
	// sum overflows: a difference of a microsecond shows.
	OpenedAt, ClickedAt int
}

const timesModulo = 1_000_003

const (
	ourTallies = `
SELECT count(*), (SELECT count(*) FROM mailtally.email_event), coalesce(sum(open_count), 0), coalesce(sum(click_count), 0),` + sumOfTimes + `
  FROM mailtally.email`
	baselineTallies = `
SELECT count(*), coalesce(sum(cardinality(event_ids)), 0), coalesce(sum(open_count), 0), coalesce(sum(click_count), 0),` + sumOfTimes + `
  FROM baseline.email_history`

	sumOfTimes = `
       coalesce(sum((extract(epoch FROM opened_at) * 1000000)::bigint % 1000003), 0)::bigint,
       coalesce(sum((extract(epoch FROM clicked_at) * 1000000)::bigint % 1000003), 0)::bigint`
)

// queryTallies reads the sums that sql asks for.
func queryTallies(ctx context.Context, pool *pgxpool.Pool, sql string) (tallies, error) {
	rows, _ := pool.Query(ctx, sql) // whose error is the rows'
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[tallies])
}

func (t tallies) minus(u tallies) tallies {
	return tallies{t.Emails - u.Emails, t.Events - u.Events, t.Opens - u.Opens, t.Clicks - u.Clicks, t.OpenedAt - u.OpenedAt, t.ClickedAt - u.ClickedAt}
}

// counts are the tallies without the times.
func (t tallies) counts() tallies {
	t.OpenedAt, t.ClickedAt = 0, 0
	return t
}

// add counts an event that is not a repeat, except for its email and its time.
func (t *tallies) add(e *tracking.Event) {
	t.Events++
	switch e.Type {
	case tracking.Opened:
		t.Opens++
	case tracking.Clicked:
		t.Clicks++
	}
}

// tallied is what the tallies of events should be, in any order and with any
// redeliveries.
func tallied(events []tracking.Event) (t tallies) {
	emails := make(map[uuid.UUID]bool)
	first := map[tracking.Type]map[uuid.UUID]int64{tracking.Opened: {}, tracking.Clicked: {}}
	for _, e := range distinct(events) {
		t.add(&e)
		emails[e.EmailID] = true
		times, at := first[e.Type], e.OccurredAt.UnixMicro()
		if earlier, known := times[e.EmailID]; times != nil && (!known || at < earlier) {
			times[e.EmailID] = at
		}
	}
	t.Emails = len(emails)
	for _, at := range first[tracking.Opened] {
		t.OpenedAt += int(at % timesModulo)
	}
	for _, at := range first[tracking.Clicked] {
		t.ClickedAt += int(at % timesModulo)
	}
	return t
}

// distinct is events without repeats.
func distinct(events []tracking.Event) []tracking.Event {
	type key struct {
		email uuid.UUID
		event string
	}
	known := make(map[key]bool, len(events))
	list := make([]tracking.Event, 0, len(events))
	for _, e := range events {
		if k := (key{e.EmailID, e.EventID}); !known[k] {
			known[k] = true
			list = append(list, e)
		}
	}
	return list
}
