package producer

import (
	"errors"
	"sync/atomic"
)

// held counts the bytes of webhooks that wait for Kafka, and refuses to exceed the limit.
// They are the provider's own: what is not proved yet is bounded by [arriving].
type held struct {
	limit int64
	bytes atomic.Int64
}

var errNoRoom = errors.New("too many webhooks are waiting for Kafka")

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

// giveBack releases all of it.
func (s *share) giveBack() {
	s.of.give(s.bytes)
	s.bytes = 0
}
