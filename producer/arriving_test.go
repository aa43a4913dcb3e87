package producer

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// reserved is how many bytes are.
func (a *arriving) reserved() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bytes
}

// When room gets short, the body that began first is cut off, and whoever needs its room
// gets it once it has let go. A body that is whole is never cut off.
func TestArriving_TheOldestUnfinishedGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newArriving(10)
		cut := make(map[string]bool)
		begin := func(name string, n int64) *arrival {
			body := a.begin(func() { cut[name] = true })
			if !body.grow(n) {
				t.Errorf("no room for %s", name)
			}
			return body
		}
		done, oldest, middle := begin("done", 3), begin("oldest", 3), begin("middle", 3)
		if !done.whole() {
			t.Error("cut off while there was room")
		}

		got := make(chan bool, 1)
		last := a.begin(func() { cut["last"] = true })
		go func() { got <- last.grow(4) }()
		synctest.Wait()
		if len(cut) != 1 || !cut["oldest"] || a.bytes != 9 {
			t.Errorf("cut off %v, %d bytes", cut, a.bytes)
		}
		select {
		case <-got:
			t.Error("its room was given away before it had let go")
		default:
		}
		if oldest.grow(1) || oldest.whole() {
			t.Error("it goes on although it was cut off")
		}
		oldest.end()
		if ok := <-got; !ok || len(cut) != 1 || a.bytes != 10 {
			t.Errorf("%t, cut off %v, %d bytes", ok, cut, a.bytes)
		}

		// The oldest itself wants more than there is.
		if middle.grow(4) || len(cut) != 2 || !cut["middle"] {
			t.Errorf("cut off %v", cut)
		}
		for _, body := range []*arrival{done, middle, last} {
			body.end()
			body.end()
		}
		if a.bytes != 0 || a.leaving != 0 || a.unfinished.Len() != 0 {
			t.Errorf("%d bytes, %d leaving, %d unfinished at the end", a.bytes, a.leaving, a.unfinished.Len())
		}
	})
}

// One that waits for room can be cut off itself.
func TestArriving_CutOffWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newArriving(10)
		first, second, third := a.begin(func() {}), a.begin(func() {}), a.begin(func() {})
		first.grow(8)
		second.grow(2)
		got := make(chan bool, 1)
		go func() { got <- second.grow(1) }() // waits for the first
		synctest.Wait()
		go func() { got <- third.grow(9) }() // needs the second's too
		synctest.Wait()
		if ok := <-got; ok {
			t.Error("it was not cut off")
		}
		second.end()
		first.end()
		if ok := <-got; !ok {
			t.Error("no room for the last")
		}
		third.end()
	})
}

// The limit holds at every moment, and whoever comes last gets room.
func TestArriving_IsNeverExceeded(t *testing.T) {
	a := newArriving(100)
	var bodies sync.WaitGroup
	for range 8 {
		bodies.Go(func() {
			for range 5_000 {
				interrupted := make(chan struct{})
				body := a.begin(func() { close(interrupted) })
				for range 4 {
					if !body.grow(10) {
						break
					}
					if n := a.reserved(); n > a.limit {
						t.Errorf("%d reserved", n)
					}
					runtime.Gosched()
				}
				whole := body.whole()
				select {
				case <-interrupted:
					if whole {
						t.Error("whole, and cut off")
					}
				default:
					if !whole {
						t.Error("cut off, and not woken")
					}
				}
				body.end()
			}
		})
	}
	bodies.Wait()
	if a.bytes != 0 || a.leaving != 0 || a.unfinished.Len() != 0 {
		t.Errorf("%d bytes, %d leaving, %d unfinished at the end", a.bytes, a.leaving, a.unfinished.Len())
	}
}
