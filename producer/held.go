package producer

import "sync/atomic"

// held counts the bytes of webhooks that are being read or published, and refuses to
// exceed the limit. A request reserves its share before it allocates the memory, so a
// flood is refused before it takes any.
type held struct {
	limit int64
	bytes atomic.Int64
}

// heldPerRecord is the minimum per event, for everything around its value.
const heldPerRecord = 2 << 10

// take reserves n bytes, or reports that there is no room. The count never exceeds the
// limit, even for a moment: a request that does not fit never keeps out one that does.
func (h *held) take(n int64) bool {
	for {
		bytes := h.bytes.Load()
		if bytes+n > h.limit {
			return false
		}
		if h.bytes.CompareAndSwap(bytes, bytes+n) {
			return true
		}
	}
}

func (h *held) give(n int64) { h.bytes.Add(-n) }

// share is what one webhook has reserved. It belongs to one goroutine.
type share struct {
	of    *held
	bytes int64
}

func (s *share) grow(n int64) bool {
	if !s.of.take(n) {
		return false
	}
	s.bytes += n
	return true
}

// shrink returns n bytes.
func (s *share) shrink(n int64) {
	s.of.give(n)
	s.bytes -= n
}

// giveBack releases all of it.
func (s *share) giveBack() {
	s.of.give(s.bytes)
	s.bytes = 0
}
