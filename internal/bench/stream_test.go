package main

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
)

// What growth sums as it goes must equal the sums over the whole stream: that depends
// on which deliveries are marked as repeats, and on an email being sent before
// everything else. And each email begins in time.
func TestStreamer(t *testing.T) {
	s := newStreamer(growthPace, time.Now())
	var events []tracking.Event
	var added tallies
	sent, spared, last := make(map[uuid.UUID]bool), 0, 0.0
	for range 100_000 {
		a := s.next()
		events = append(events, *a.event)
		if !a.repeat {
			added.add(a.event)
			spared++
		}
		if a.event.Type == tracking.Sent {
			sent[a.event.EmailID] = true
		}
		if !sent[a.event.EmailID] || a.due < last {
			t.Fatalf("%s of email %s, due at %.0f, comes before it was sent, or after one that is due at %.0f", a.event.Type, a.event.EmailID, a.due, last)
		}
		last = a.due
	}
	added.Emails = len(sent)
	if want := tallied(events).counts(); added != want {
		t.Errorf("added up %+v, the stream holds %+v", added, want)
	}
	if want := len(distinct(events)); spared != want || want == len(events) {
		t.Errorf("%d of %d deliveries are no repeats, should be %d", spared, len(events), want)
	}
}

// Wherever it is cut, the shares of the types are those of a whole stream.
func TestSteady(t *testing.T) {
	mix := func(events []tracking.Event) map[tracking.Type]float64 {
		shares := make(map[tracking.Type]float64)
		for i := range events {
			shares[events[i].Type] += 1 / float64(len(events))
		}
		return shares
	}
	now := time.Now()
	events, want := steady(100_000, now), mix(stream(100_000, now))
	for name, part := range map[string][]tracking.Event{"first": events[:20_000], "last": events[80_000:]} {
		for typ, share := range mix(part) {
			if math.Abs(share-want[typ]) > .015 {
				t.Errorf("of the %s ones %.1f %% are %s, want %.1f %%", name, 100*share, typ, 100*want[typ])
			}
		}
	}
}

func TestBodies(t *testing.T) {
	events, size := stream(5_000, time.Now()), 0
	for i := range events {
		e := &events[i]
		body := resendBody(e)
		size += len(body)
		var got struct {
			Type string
			Data struct {
				EmailID uuid.UUID `json:"email_id"`
				Click   struct{ Link, UserAgent string }
			}
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
		if got.Type != "email."+e.Type.String() || got.Data.EmailID != e.EmailID || got.Data.Click.Link != e.Link {
			t.Fatalf("%s\nis the body of\n%+v", body, e)
		}
	}
	if mean := size / len(events); mean < 950 || mean > 1100 {
		t.Errorf("%d bytes a body, want about 1 KB", mean)
	}
	for i, e := range counting(7, time.Now()) {
		body := bodyWith(400 * (i % 2))(&e)
		if len(body) != bodySize || !json.Valid(body) {
			t.Errorf("%d bytes, want %d of JSON: %s", len(body), bodySize, body)
		}
	}
}
