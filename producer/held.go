package producer

import "sync/atomic"

// held counts the bytes of webhooks that are being read or published, and
// refuses what would go beyond the limit. A request takes its share before it
// makes the memory, so a flood is refused before it is in memory.
type held struct {
	limit int64
	bytes atomic.Int64
}

// heldPerRecord is what an event takes at the least, for all that surrounds its value.
const heldPerRecord = 2 << 10

// take reserves n bytes, or says that there is no room. It never goes beyond the
// limit, even for a moment: one that does not fit keeps out none that does.
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

// share is what one webhook has taken. It belongs to one goroutine.
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

// giveBack returns all of it.
func (s *share) giveBack() {
	s.of.give(s.bytes)
	s.bytes = 0
}
