package producer

import "sync/atomic"

// held counts the bytes of webhooks that are being read or published, and
// refuses what would go beyond the limit. A request takes its share before its
// body is read, so a flood is refused before it is in memory.
type held struct {
	limit int64
	bytes atomic.Int64
}

// heldPerRequest is what a webhook takes at the least, for all that surrounds its body.
const heldPerRequest = 2 << 10

// take reserves n bytes, or says that there is no room.
func (h *held) take(n int64) bool {
	if h.bytes.Add(n) > h.limit {
		h.bytes.Add(-n)
		return false
	}
	return true
}

func (h *held) give(n int64) { h.bytes.Add(-n) }
