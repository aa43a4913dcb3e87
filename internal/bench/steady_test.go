package main

import (
	"math"
	"testing"
	"time"

	"github.com/mailtally/mailtally/tracking"
)

// mix is the share of each type.
func mix(events []tracking.Event) map[tracking.Type]float64 {
	shares := make(map[tracking.Type]float64)
	for i := range events {
		shares[events[i].Type] += 1 / float64(len(events))
	}
	return shares
}

// Wherever it is cut, there are as many of each type as in a whole stream; and
// what is compared by different numbers of deliveries gets the same ones first.
func TestSteady(t *testing.T) {
	now := time.Now()
	events := steady(300_000, now)
	want := mix(stream(300_000, now))
	for name, part := range map[string][]tracking.Event{"the first": events[:20_000], "the last": events[280_000:], "all": events} {
		got := mix(part)
		for typ, share := range want {
			if math.Abs(got[typ]-share) > .015 {
				t.Errorf("%s of them: %.1f %% are %s, want %.1f %%", name, 100*got[typ], typ, 100*share)
			}
		}
	}
	few := steady(1_000, now)
	for i := range few {
		if few[i] != events[i] {
			t.Fatalf("delivery %d is %+v where there are few, %+v where there are many", i, few[i], events[i])
		}
	}
}
