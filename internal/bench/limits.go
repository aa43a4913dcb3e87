package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// The limits are what PostgreSQL can do with the same events at all: they are
// written by COPY, and nothing is counted.

// createCopied makes a table with the columns of mailtally.email_event.
const createCopied = `
CREATE TABLE copied (
    email_id    uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    type        text NOT NULL,
    event_id    text NOT NULL,
    link        text,
    ip          inet,
    user_agent  text,
    reason      text,
    message     text%s
)`

const (
	noKey    = ""
	emailKey = ", PRIMARY KEY (email_id, event_id)"
)

const copiedTallies = `
SELECT count(*), coalesce(sum(events), 0), coalesce(sum(opens), 0), coalesce(sum(clicks), 0), coalesce(sum(links), 0),` + sumOfTimes + `
  FROM (SELECT count(*) AS events, count(link) AS links,
               count(*) FILTER (WHERE type = 'opened') AS opens, min(occurred_at) FILTER (WHERE type = 'opened') AS opened_at,
               count(*) FILTER (WHERE type = 'clicked') AS clicks, min(occurred_at) FILTER (WHERE type = 'clicked') AS clicked_at
          FROM copied GROUP BY email_id) AS email`

// keyedCopy writes into a table that forbids what mailtally's history must not
// hold: an event twice.
func keyedCopy(s size, l load) *contender {
	return copyEvents("COPY, keyed, "+s.String(), emailKey, s, l, false)
}

// sortedCopy is keyedCopy of batches in the order of the key, whose index likes
// that better.
func sortedCopy(s size, l load) *contender {
	return copyEvents("COPY, keyed, each batch sorted, "+s.String(), emailKey, s, l, true)
}

// keylessCopy writes into a table without any index.
func keylessCopy(s size, l load) *contender {
	return copyEvents("COPY, no key, "+s.String(), noKey, s, l, false)
}

func copyEvents(name, key string, s size, l load, sorted bool) *contender {
	c := &contender{row: row{Name: name}, size: s, limit: true, load: l, tallies: copiedTallies}
	c.prepare = func(ctx context.Context, pool *pgxpool.Pool) (func(context.Context) error, error) {
		if _, err := pool.Exec(ctx, fmt.Sprintf(createCopied, key)); err != nil {
			return nil, err
		}
		shares := copyShares(l.events, s, sorted)
		return func(ctx context.Context) error { return copyAll(ctx, pool, shares) }, nil
	}
	return c
}

// copyShares makes what each writer sends, a part a batch, which may be sorted by
// the key.
func copyShares(events []tracking.Event, s size, sorted bool) [][][]byte {
	shares := make([][][]byte, s.writers)
	for w, events := range keyed(events, s.writers) {
		for len(events) > 0 {
			batch := events[:min(s.batch, len(events))]
			if sorted {
				slices.SortFunc(batch, func(a, b tracking.Event) int {
					return cmp.Or(bytes.Compare(a.EmailID[:], b.EmailID[:]), strings.Compare(a.EventID, b.EventID))
				})
			}
			shares[w] = append(shares[w], copyData(batch))
			events = events[len(batch):]
		}
	}
	return shares
}

// copyAll has a writer send each share.
func copyAll(ctx context.Context, pool *pgxpool.Pool, shares [][][]byte) error {
	return each(ctx, len(shares), func(ctx context.Context, w int) error {
		return pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
			for _, data := range shares[w] {
				if err := copyOne(ctx, conn, bytes.NewReader(data)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// copyOne is a transaction of its own.
func copyOne(ctx context.Context, conn *pgxpool.Conn, data io.Reader) error {
	_, err := conn.Conn().PgConn().CopyFrom(ctx, data, "COPY copied FROM STDIN (FORMAT binary)")
	return err
}

// copyData is events in COPY's binary format, as the manual's chapter on COPY
// describes it, the columns as in createCopied.
func copyData(events []tracking.Event) []byte {
	buf := make([]byte, 0, 256*len(events))
	buf = append(buf, "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	text := func(s string) {
		if s == "" {
			buf = append(buf, 0xff, 0xff, 0xff, 0xff) // null
			return
		}
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(s)))
		buf = append(buf, s...)
	}
	for i := range events {
		e := &events[i]
		buf = binary.BigEndian.AppendUint16(buf, 9)
		text(string(e.EmailID[:]))
		buf = binary.BigEndian.AppendUint32(buf, 8)
		buf = binary.BigEndian.AppendUint64(buf, uint64(e.OccurredAt.Sub(timestampEpoch).Microseconds()))
		text(e.Type.String())
		text(e.EventID)
		text(e.Link)
		if e.IP.Is4() {
			ip := e.IP.As4()
			buf = append(buf, 0, 0, 0, 8, 2, 32, 0, 4) // length, PGSQL_AF_INET, bits, no cidr, size
			buf = append(buf, ip[:]...)
		} else { // the streams have no other addresses
			text("")
		}
		text(e.UserAgent)
		text(e.Reason)
		text(e.Message)
	}
	return binary.BigEndian.AppendUint16(buf, 0xffff)
}
