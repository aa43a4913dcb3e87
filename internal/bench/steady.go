package main

import (
	"time"

	"github.com/mailtally/mailtally/tracking"
)

// steadyFrom is the number of deliveries after which a stream's mix stays what it
// is: the longest way from an email to one of its clicks. What comes before is
// mostly sent and delivered, and a stream that begins no further emails ends in
// opens and clicks alone.
const steadyFrom = 1_100_000

// steady is n deliveries out of the middle of one like [stream], which goes on:
// the same at every call but for the times, and what is longer begins with what
// is shorter. Many are of emails that began before; and some are repeats of what
// came before, which here come for the first time.
func steady(n int, now time.Time) []tracking.Event {
	s := newStreamer(streamPace, now.Add(-time.Hour))
	for range steadyFrom {
		s.next()
	}
	events := make([]tracking.Event, n)
	for i := range events {
		events[i] = s.next().delivered()
	}
	return events
}
