package tracking

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

const copyHistory = `
COPY mailtally.email_event (email_id, occurred_at, type, event_id, link, ip, user_agent, reason, message)
FROM STDIN (FORMAT binary);`

// appendHistory takes the new events and commits, in one round trip: the COMMIT is part
// of the same query.
const appendHistory = copyHistory + `
COMMIT`

func (b *batch) appendHistoryAndCommit(ctx context.Context) error {
	delete(b.conn.CustomData(), warned)
	tag, err := b.copy(ctx, appendHistory)
	switch {
	case err != nil:
		b.unsure = b.conn.IsClosed()
	case tag.String() != "COMMIT":
		err = fmt.Errorf("%w: the server answered %q", errUnexpected, tag)
	default:
		b.unsure = b.conn.CustomData()[warned] != nil
	}
	if err != nil {
		return fmt.Errorf("append events to the history and commit: %w", err)
	}
	return nil
}

// copy sends the batch's new events to a query that begins with copyHistory.
func (b *batch) copy(ctx context.Context, query string) (pgconn.CommandTag, error) {
	rows := historyReader{events: b.events, isNew: b.isNew, made: []byte(copyHeader)}
	defer rows.close()
	return b.conn.CopyFrom(ctx, &rows, query)
}

// historyReader produces the COPY data of a batch's new events, in batch order, as it is
// read: a batch's history is never in memory as a whole.
type historyReader struct {
	mu     sync.Mutex // when the connection fails, a Read by pgconn may outlast its CopyFrom
	events []Event    // still to be read
	isNew  []bool
	made   []byte // encoded but not yet read
	row    []byte // the current row, of which made is the rest; reused
	ended  bool
}

func (h *historyReader) Read(p []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		copied := copy(p[n:], h.made)
		h.made = h.made[copied:]
		if n += copied; n == len(p) {
			return n, nil
		}
		if !h.next() {
			return n, io.EOF
		}
	}
}

// next encodes the next row, or the trailer, and returns false after that.
func (h *historyReader) next() bool {
	for len(h.events) > 0 {
		e, isNew := &h.events[0], h.isNew[0]
		h.events, h.isNew = h.events[1:], h.isNew[1:]
		if isNew {
			h.row = appendCopyRow(h.row[:0], e)
			h.made = h.row
			return true
		}
	}
	if h.ended {
		return false
	}
	h.made, h.ended = []byte(copyTrailer), true
	return true
}

// close ends the reading: from then on, the events belong to the caller again.
func (h *historyReader) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events, h.made, h.ended = nil, nil, true
}
