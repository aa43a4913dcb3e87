package producer

import (
	"sync"
	"testing"
)

func TestHeld(t *testing.T) {
	h := held{limit: 10}
	one, other := share{of: &h}, share{of: &h}
	steps := []struct {
		what string
		does func() bool
		ok   bool
		held int64
	}{
		{"take", func() bool { return one.grow(6) }, true, 6},
		{"too much", func() bool { return other.grow(5) }, false, 6},
		{"all that is left", func() bool { return other.grow(4) }, true, 10},
		{"nothing is left", func() bool { return one.grow(1) }, false, 10},
		{"give back", func() bool { one.giveBack(); return true }, true, 4},
		{"give back again", func() bool { one.giveBack(); return true }, true, 4},
		{"more than all", func() bool { return one.grow(1 << 62) }, false, 4},
		{"give back all", func() bool { other.giveBack(); return true }, true, 0},
	}
	for _, step := range steps {
		if ok := step.does(); ok != step.ok || h.bytes.Load() != step.held {
			t.Errorf("%s: %t, %d held, want %t, %d", step.what, ok, h.bytes.Load(), step.ok, step.held)
		}
	}
}

// The limit holds at every moment, and a request that does not fit keeps out none that
// does.
func TestHeldIsNeverExceeded(t *testing.T) {
	h := held{limit: 100}
	var takers sync.WaitGroup
	for range 4 {
		takers.Go(func() {
			for range 10_000 {
				small, large := share{of: &h}, share{of: &h}
				if !small.grow(10) { // four times ten always fit
					t.Error("no room for a share that fits")
				}
				large.grow(1000)
				if bytes := h.bytes.Load(); bytes > h.limit {
					t.Errorf("%d held", bytes)
				}
				small.giveBack()
				large.giveBack()
			}
		})
	}
	takers.Wait()
	if bytes := h.bytes.Load(); bytes != 0 {
		t.Errorf("%d held at the end", bytes)
	}
}
