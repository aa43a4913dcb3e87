package tracking_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/mailtally/mailtally/tracking"
)

// Any multiset of events, in any order, split into any batches over any number of
// concurrent writers, gives the rows of the pure fold: each event once (I1), whatever
// the order (I2), each first open and click reported once (I3). The writers' limits are
// small, so that emails become crowded all the time, and they differ, as during a
// deployment that changes them.
func TestProperty_I1_I2_I3_AnyOrderAnyBatchesAnyWriters(t *testing.T) {
	pool := newPool(t)
	member := asConsumer(t, pool)
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		events := drawEvents(t)
		batches := drawBatches(t, events)
		writers := rapid.IntRange(1, 4).Draw(t, "writers")

		var mu sync.Mutex
		var got totals
		var failure error
		queue := make(chan []tracking.Event, len(batches))
		for _, b := range batches {
			queue <- b
		}
		close(queue)
		var running sync.WaitGroup
		for range writers {
			store := tracking.Patient(tracking.Store{Pool: member, SeenLimit: rapid.IntRange(1, largestLimit).Draw(t, "seen limit")})
			running.Go(func() {
				for b := range queue {
					result, err := store.Apply(ctx, b)
					mu.Lock()
					got.add(result)
					if err != nil {
						failure = err
					}
					mu.Unlock()
				}
			})
		}
		running.Wait()

		if failure != nil {
			t.Fatalf("apply: %v", failure)
		}
		if want := expected(events); got != want {
			t.Fatalf("results add up to %+v, want %+v", got, want)
		}
		compare(ctx, t, pool, events)
		var longest int
		if err := pool.QueryRow(ctx, "SELECT max(cardinality(seen)) FROM mailtally.email").Scan(&longest); err != nil {
			t.Fatalf("%v", err)
		}
		if longest > largestLimit {
			t.Fatalf("a row remembers %d events, the limits are %d and less", longest, largestLimit)
		}
	})
}

// largestLimit is small enough to be exceeded all the time.
const largestLimit = 4

// drawEvents draws events of a few emails, with repeats. The ids are new in every run,
// so runs can share a database.
func drawEvents(t *rapid.T) []tracking.Event {
	type email struct {
		id         uuid.UUID
		atProvider string // if that is another id
	}
	emails := make([]email, rapid.IntRange(1, 4).Draw(t, "emails"))
	for i := range emails {
		emails[i].id = uuid.New()
		if rapid.Bool().Draw(t, "no UUID") {
			emails[i].atProvider = "<" + emails[i].id.String() + "@example.com>"
			emails[i].id, _ = tracking.EmailID("test", emails[i].atProvider)
		}
	}
	base := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	distinct := make([]tracking.Event, rapid.IntRange(1, 40).Draw(t, "distinct events"))
	for i := range distinct {
		typ := rapid.SampledFrom(append(tracking.Types(), tracking.Opened, tracking.Opened, tracking.Clicked, tracking.Clicked)).Draw(t, "type")
		of := rapid.SampledFrom(emails).Draw(t, "email")
		distinct[i] = tracking.Event{
			EmailID:         of.id,
			ProviderEmailID: of.atProvider,
			// The same event id may be used for several emails.
			EventID:    fmt.Sprintf("msg_%d", i%30),
			Type:       typ,
			OccurredAt: base.Add(time.Duration(rapid.IntRange(-40*24*3600e6, 40*24*3600e6).Draw(t, "µs")) * time.Microsecond),
		}
		if typ == tracking.Clicked {
			distinct[i].Link = fmt.Sprintf("https://example.com/%d", i)
		}
	}
	// The same identity means the same event.
	identity := make(map[string]int)
	for i, e := range distinct {
		key := e.EmailID.String() + e.EventID
		if first, known := identity[key]; known {
			distinct[i] = distinct[first]
		}
		identity[key] = i
	}
	events := distinct
	for range rapid.IntRange(0, 20).Draw(t, "redeliveries") {
		events = append(events, rapid.SampledFrom(distinct).Draw(t, "redelivered"))
	}
	return rapid.Permutation(events).Draw(t, "order")
}

func drawBatches(t *rapid.T, events []tracking.Event) [][]tracking.Event {
	var batches [][]tracking.Event
	for len(events) > 0 {
		n := rapid.IntRange(1, len(events)).Draw(t, "batch")
		batches = append(batches, events[:n])
		events = events[n:]
	}
	return batches
}
