package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
)

// tallies are sums over all emails. A run whose tallies are not those of its
// stream is a way to lose events, and is reported as that.
type tallies struct {
	Emails, Events, Opens, Clicks, ClicksStored int

	// The sums of all emails' first times, in microseconds since 2000, modulo
	// timesModulo: those of ten thousand emails are more than 64 bits hold.
	OpenedAt, ClickedAt int
}

const timesModulo = 1_000_000_000_000_000_000

const (
	ourTallies = `
SELECT count(*), (SELECT count(*) FROM mailtally.email_event), coalesce(sum(open_count), 0), coalesce(sum(click_count), 0),
       (SELECT count(*) FROM mailtally.email_event WHERE type = 'clicked'),` + sumOfTimes + `
  FROM mailtally.email`
	baselineTallies = `
SELECT count(*), coalesce(sum(cardinality(event_ids)), 0), coalesce(sum(open_count), 0), coalesce(sum(click_count), 0),
       coalesce(sum(jsonb_array_length(link_clicks->'clicks')), 0),` + sumOfTimes + `
  FROM baseline.email_history`

	// 946,684,800 is 2000 in Unix time.
	sumOfTimes = `
       (coalesce(sum((extract(epoch FROM opened_at) - 946684800) * 1000000), 0) % 1000000000000000000)::bigint,
       (coalesce(sum((extract(epoch FROM clicked_at) - 946684800) * 1000000), 0) % 1000000000000000000)::bigint`
)

// timestampEpoch is timestamptz's zero, and that of first times.
var timestampEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (t tallies) minus(u tallies) tallies {
	return tallies{
		t.Emails - u.Emails, t.Events - u.Events, t.Opens - u.Opens, t.Clicks - u.Clicks, t.ClicksStored - u.ClicksStored,
		timesApart(t.OpenedAt, u.OpenedAt), timesApart(t.ClickedAt, u.ClickedAt),
	}
}

// timesApart is what two sums of times differ by, one way round or the other.
func timesApart(a, b int) int {
	switch d := a - b; {
	case d > timesModulo/2:
		return d - timesModulo
	case d < -timesModulo/2:
		return d + timesModulo
	default:
		return d
	}
}

// counts are the tallies without the times.
func (t tallies) counts() tallies {
	t.OpenedAt, t.ClickedAt = 0, 0
	return t
}

// differences says what some runs lack of what they should have, the least and
// the most of each sum: "" if they have it all. Times are named where all the
// numbers are right: where an email is missing they cannot be.
func differences(want tallies, lacking ...tallies) string {
	counts := []sum{
		{"events", func(t tallies) int { return t.Events }},
		{"emails", func(t tallies) int { return t.Emails }},
		{"opens", func(t tallies) int { return t.Opens }},
		{"clicks", func(t tallies) int { return t.Clicks }},
		{"clicks in the history", func(t tallies) int { return t.ClicksStored }},
	}
	for i, s := range counts {
		counts[i].name = fmt.Sprintf("of %s %s", number(float64(s.of(want))), s.name)
	}
	if lost := nonzero(counts, lacking); lost != "" {
		return "wrong: lost " + lost
	}
	times := []sum{
		{"µs in all first opens", func(t tallies) int { return t.OpenedAt }},
		{"µs in all first clicks", func(t tallies) int { return t.ClickedAt }},
	}
	if off := nonzero(times, lacking); off != "" {
		return "wrong: off by " + off
	}
	return ""
}

// sum is one of the tallies.
type sum struct {
	name string
	of   func(tallies) int
}

// nonzero writes those sums that are not 0 in all of list.
func nonzero(sums []sum, list []tallies) string {
	var texts []string
	for _, s := range sums {
		by := func(a, b tallies) int { return s.of(a) - s.of(b) }
		least, most := s.of(slices.MinFunc(list, by)), s.of(slices.MaxFunc(list, by))
		if least == 0 && most == 0 {
			continue
		}
		text := number(float64(least))
		if least != most {
			text += "–" + number(float64(most))
		}
		texts = append(texts, text+" "+s.name)
	}
	return strings.Join(texts, ", ")
}

// tallied is what the tallies of events should be.
func tallied(events []tracking.Event) (t tallies) {
	emails, known := make(map[uuid.UUID]firsts), make(map[string]bool)
	for i := range events {
		e := &events[i]
		f := emails[e.EmailID]
		f.take(e)
		emails[e.EmailID] = f
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
	for _, f := range emails {
		t.addTimes(f)
	}
	return t
}

func (t *tallies) addTimes(f firsts) {
	t.OpenedAt = (t.OpenedAt + f.opened) % timesModulo
	t.ClickedAt = (t.ClickedAt + f.clicked) % timesModulo
}

// firsts are the times of an email's first open and click, in microseconds since
// 2000: 0 if there is none.
type firsts struct{ opened, clicked int }

// take takes an event into account, in any order and any number of times.
func (f *firsts) take(e *tracking.Event) {
	var first *int
	switch e.Type {
	case tracking.Opened:
		first = &f.opened
	case tracking.Clicked:
		first = &f.clicked
	default:
		return
	}
	if at := int(e.OccurredAt.Sub(timestampEpoch).Microseconds()); *first == 0 || at < *first {
		*first = at
	}
}
