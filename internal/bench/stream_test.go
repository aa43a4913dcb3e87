package main

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
)

// What growth adds up as it goes must be what a look at the whole stream gives:
// it rests on which deliveries are said to be repeats, and on an email being
// sent before all else.
func TestStreamerTellsRepeats(t *testing.T) {
	s := newStreamer(growthPace, time.Now())
	var events, spared []tracking.Event
	var added tallies
	sent := make(map[uuid.UUID]bool)
	for range 300_000 {
		a := s.next()
		events = append(events, *a.event)
		if !a.repeat {
			added.add(a.event)
			spared = append(spared, *a.event)
		}
		if a.event.Type == tracking.Sent {
			sent[a.event.EmailID] = true
		}
		if !sent[a.event.EmailID] {
			t.Fatalf("email %s: %s before it was sent", a.event.EmailID, a.event.Type)
		}
	}
	if want := tallied(events).counts(); added != want {
		t.Errorf("added up %+v, the stream holds %+v", added, want)
	}
	if got, want := len(spared), len(distinct(events)); got != want || want == len(events) {
		t.Errorf("%d of %d deliveries are no repeats, should be %d", got, len(events), want)
	}
}

// Each email begins in time: a delivery never comes after one that is due later.
func TestStreamerKeepsOrder(t *testing.T) {
	s := newStreamer(growthPace, time.Now())
	last := 0.0
	for i := range 300_000 {
		a := s.next()
		if a.due < last {
			t.Fatalf("delivery %d is due at %.0f, after one at %.0f", i, a.due, last)
		}
		last = a.due
	}
}

func TestStreamIsAsLongAsAsked(t *testing.T) {
	events := stream(50_000, time.Now())
	got := tallied(events)
	if perEmail := float64(got.Events) / float64(got.Emails); len(events) != 50_000 || perEmail < 3 || perEmail > 3.4 {
		t.Errorf("%d deliveries, %.2f events an email", len(events), perEmail)
	}
}
