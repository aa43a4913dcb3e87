package producer

import (
	"container/list"
	"sync"
)

// arriving bounds the bytes of bodies whose sender is not proved yet, whether they are
// still arriving or being checked. Anyone can send a part of a body and wait. So if room
// gets short, the body that has been unfinished longest is cut off: however many are half
// sent, the next one is read.
type arriving struct {
	limit int64

	mu         sync.Mutex
	changed    sync.Cond // a body was cut off, or has let go of its bytes
	bytes      int64
	leaving    int64     // of bytes, by bodies that were cut off: these are about to let go
	unfinished list.List // of *arrival, the oldest in front
}

func newArriving(limit int64) *arriving {
	a := &arriving{limit: limit}
	a.changed.L = &a.mu
	return a
}

// arrival is one body. Its methods belong to the goroutine that reads it.
type arrival struct {
	of        *arriving
	interrupt func()
	bytes     int64
	place     *list.Element // in unfinished; nil once it is whole or was cut off
	cutOff    bool
}

// begin adds a body. If it is cut off, interrupt is called to wake its reader, from
// another goroutine and never after whole or end: it must not block.
func (a *arriving) begin(interrupt func()) *arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	body := &arrival{of: a, interrupt: interrupt}
	body.place = a.unfinished.PushBack(body)
	return body
}

// grow reserves n bytes, and reports whether it could. If there is no room, it cuts off
// the oldest unfinished bodies and waits until they have let go, so what is reserved
// never exceeds the limit. It fails for a body that is cut off, which may be this one.
func (b *arrival) grow(n int64) bool {
	a := b.of
	a.mu.Lock()
	defer a.mu.Unlock()
	for !b.cutOff {
		if a.bytes+n <= a.limit {
			a.bytes += n
			b.bytes += n
			return true
		}
		for a.bytes-a.leaving+n > a.limit && !b.cutOff {
			a.unfinished.Front().Value.(*arrival).cut() // b itself is in the list
		}
		if !b.cutOff {
			a.changed.Wait()
		}
	}
	return false
}

// cut needs the lock.
func (b *arrival) cut() {
	b.of.unfinished.Remove(b.place)
	b.place, b.cutOff = nil, true
	b.of.leaving += b.bytes
	b.of.changed.Broadcast() // it may wait for room itself
	b.interrupt()
}

// shrink returns n bytes.
func (b *arrival) shrink(n int64) {
	b.of.mu.Lock()
	defer b.of.mu.Unlock()
	b.give(n)
}

// whole says that all of the body is there, so that it is not cut off any more. It
// reports false if it has been already.
func (b *arrival) whole() bool {
	b.of.mu.Lock()
	defer b.of.mu.Unlock()
	b.leave()
	return !b.cutOff
}

// end releases all of it.
func (b *arrival) end() {
	b.of.mu.Lock()
	defer b.of.mu.Unlock()
	b.leave()
	b.give(b.bytes)
}

func (b *arrival) leave() {
	if b.place != nil {
		b.of.unfinished.Remove(b.place)
		b.place = nil
	}
}

func (b *arrival) give(n int64) {
	b.bytes -= n
	b.of.bytes -= n
	if b.cutOff {
		b.of.leaving -= n
	}
	b.of.changed.Broadcast()
}
