package tracking

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// appendHistory takes the new events and commits. One round trip: the second
// statement waits in the first one's query.
const appendHistory = `
COPY mailtally.email_event (email_id, occurred_at, type, event_id, link, ip, user_agent, reason, message)
FROM STDIN (FORMAT binary);
COMMIT`

func (b *batch) appendHistoryAndCommit(ctx context.Context) error {
	rows := historyReader{events: b.events, isNew: b.isNew, rest: copyHeader}
	defer rows.close()
	tag, err := b.conn.CopyFrom(ctx, &rows, appendHistory)
	if err == nil && tag.String() != "COMMIT" {
		err = fmt.Errorf("%w: the server answered %q", errUnexpected, tag)
	} else if err != nil {
		b.unsure = b.conn.IsClosed()
	}
	if err != nil {
		return fmt.Errorf("append events to the history and commit: %w", err)
	}
	return nil
}

// historyReader is the COPY data of a batch's new events, in the order in which
// they came, made as it is read: a batch's history is never in memory as a whole.
type historyReader struct {
	mu     sync.Mutex // of all below: a Read of pgconn's may outlast its CopyFrom where the connection fails
	events []Event
	isNew  []bool
	next   int
	row    []byte
	rest   []byte // what is made and not yet read
}

// close ends the reading, so that the events are the caller's again.
func (h *historyReader) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events, h.isNew, h.rest, h.next = nil, nil, nil, 1
}

func (h *historyReader) Read(p []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		copied := copy(p[n:], h.rest)
		h.rest = h.rest[copied:]
		if n += copied; n == len(p) {
			return n, nil
		}
		for h.next < len(h.events) && !h.isNew[h.next] {
			h.next++
		}
		switch {
		case h.next < len(h.events):
			h.row = appendCopyRow(h.row[:0], &h.events[h.next])
			h.rest = h.row
		case h.next == len(h.events):
			h.rest = copyTrailer
		default:
			return n, io.EOF
		}
		h.next++
	}
}
