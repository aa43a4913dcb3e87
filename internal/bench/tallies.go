package main

import (
	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
)

// tallies are sums over all emails. A run whose tallies are not those of its
// stream is a way to lose events, and is reported as that.
type tallies struct{ Emails, Events, Opens, Clicks, ClicksStored int }

const (
	ourTallies = `
SELECT count(*), (SELECT count(*) FROM mailtally.email_event), coalesce(sum(open_count), 0), coalesce(sum(click_count), 0),
       (SELECT count(*) FROM mailtally.email_event WHERE type = 'clicked')
  FROM mailtally.email`
	baselineTallies = `
SELECT count(*), coalesce(sum(cardinality(event_ids)), 0), coalesce(sum(open_count), 0), coalesce(sum(click_count), 0),
       coalesce(sum(jsonb_array_length(link_clicks->'clicks')), 0)
  FROM baseline.email_history`
)

func (t tallies) minus(u tallies) tallies {
	return tallies{t.Emails - u.Emails, t.Events - u.Events, t.Opens - u.Opens, t.Clicks - u.Clicks, t.ClicksStored - u.ClicksStored}
}

// tallied is what the tallies of events should be.
func tallied(events []tracking.Event) (t tallies) {
	emails, known := make(map[uuid.UUID]bool), make(map[string]bool)
	for _, e := range events {
		emails[e.EmailID] = true
		if known[e.EventID] { // of the whole stream, not only of its email
			continue
		}
		known[e.EventID] = true
		t.Events++
		switch e.Type {
		case tracking.Opened:
			t.Opens++
		case tracking.Clicked:
			t.Clicks++
			t.ClicksStored++
		}
	}
	t.Emails = len(emails)
	return t
}
