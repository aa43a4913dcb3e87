package tracking

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DefaultSeenLimit is how many event hashes an email's row holds before the
// email is crowded. A row write costs 20 µs with 3 of them and 64 µs with 1,000;
// fewer than one email in thousands gets past 64.
const DefaultSeenLimit = 64

// Store writes the tally. It is safe for concurrent use by any number of
// goroutines and processes.
type Store struct {
	// Pool's connections may go through a transaction-pooling proxy: no statement
	// leaves state in a session.
	Pool *pgxpool.Pool
	// SeenLimit replaces DefaultSeenLimit. Stores with different limits may write
	// the same tables. Tests make it small.
	SeenLimit int

	statementTimeout time.Duration // replaces defaultTimeout in tests
}

// Counts is a number for each [Type].
type Counts [typeEnd]int

// Sum is the number over all types.
func (c Counts) Sum() (n int) {
	for _, v := range c {
		n += v
	}
	return n
}

// Result is what a committed batch did.
type Result struct {
	// Applied and Duplicate add up to the events given.
	Applied, Duplicate Counts
	// FirstOpens and FirstClicks are the numbers of emails whose first open or
	// click this batch brought: reported once for each email, over all writers.
	FirstOpens, FirstClicks int
}

// Apply applies events to the tally in one transaction: when it returns nil they
// are committed, each new one counted once and each known one not again. When it
// returns an error nothing is; the same events may be applied again, here or by
// any other writer. A *[RefusedError] will come again for the same events, any
// other may pass: see [RetryReason].
//
// Where the connection is lost at the commit, so that nobody said how it ended,
// Apply asks the database for as long as ctx lasts and a few seconds more. If
// that is not enough the error stands for "perhaps": applying again is right
// then too, as always, but if the answer was yes, the new events come out as
// duplicates, and their first opens have been reported by nobody.
//
// The transaction is two round trips, and one to three more where there are
// duplicates or crowded emails.
func (s *Store) Apply(ctx context.Context, events []Event) (Result, error) {
	if len(events) == 0 {
		return Result{}, nil
	}
	b := batch{
		events:  events,
		limit:   cmp.Or(s.SeenLimit, DefaultSeenLimit),
		begin:   s.begin(),
		applied: make([]key, 0, len(events)),
	}
	// A connection that comes back in a failed or open transaction is closed, not
	// reused, which rolls back.
	err := s.Pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		b.conn = conn.Conn().PgConn()
		if err := b.tally(ctx); err != nil {
			return err
		}
		return b.appendHistoryAndCommit(ctx)
	})
	if b.unsure && s.committed(ctx, &b) {
		err = nil
	}
	if err != nil {
		// Where ctx was cancelled, rather than run out, there is no next batch.
		if RetryReason(err) == RetryTimeout && !errors.Is(ctx.Err(), context.Canceled) {
			s.endZombies(ctx)
		}
		return Result{}, fmt.Errorf("tracking: apply %d events: %w", len(events), classify(err))
	}
	return b.result(), nil
}

// batch is one Apply.
type batch struct {
	conn   *pgconn.PgConn
	events []Event
	limit  int
	begin  []string

	xid     string // the transaction's id, to ask for its fate
	unsure  bool   // the connection was lost at the commit
	applied []key  // the new events

	firstOpens, firstClicks int
}

// begin opens the transaction. Its time-outs are the server's: a writer that is
// stopped or cut off half-way holds its rows' locks, and everyone who meets the
// same emails waits for it. Between two statements it gets five seconds, long
// against a round trip and short against an alert; for one, as long as a batch
// may take. Where its machine is gone, keep-alives tell. In the middle of COPY's
// data none of these ends it: that is what endZombies is for. All settings are
// local to the transaction, for the sake of pooling proxies.
func (s *Store) begin() []string {
	return []string{
		"BEGIN ISOLATION LEVEL READ COMMITTED",
		fmt.Sprintf(`SELECT pg_current_xact_id()::text,
		        set_config('idle_in_transaction_session_timeout', '5s', true),
		        set_config('statement_timeout', '%dms', true),
		        set_config('tcp_keepalives_idle', '5', true),
		        set_config('tcp_keepalives_interval', '2', true),
		        set_config('tcp_keepalives_count', '3', true),
		        set_config('client_encoding', 'UTF8', true)`, s.timeout().Milliseconds()),
	}
}

const defaultTimeout = 30 * time.Second

// timeout is the most that a statement may take.
func (s *Store) timeout() time.Duration { return cmp.Or(s.statementTimeout, defaultTimeout) }

// tally changes the rows of mailtally.email, in two passes.
//
// The first tries every email at once. What it did not change holds at least one
// of the events already, or is crowded, or has become so by this batch: few,
// and locked by now. The second pass asks which of their events are new and
// applies those; nobody can come between, so it cannot fail to.
func (b *batch) tally(ctx context.Context) error {
	all := deltas(sortedKeys(b.events), b.events)
	var rest []key
	for i := range all {
		// More events than a row may remember: the row takes the first ones, which
		// creates and locks it, and the second pass deals with the others.
		if d := &all[i]; len(d.keys) > b.limit {
			rest = append(rest, d.keys[b.limit:]...)
			*d = fold(d.keys[:b.limit], b.events)
		}
	}

	unchanged, err := b.upsert(ctx, all, b.begin...)
	if err != nil {
		return err
	}
	for _, d := range unchanged {
		rest = append(rest, d.keys...)
	}
	if len(rest) == 0 {
		return nil
	}

	slices.SortFunc(rest, compareKeys)
	fresh, err := b.unknown(ctx, rest)
	if err != nil || len(fresh) == 0 {
		return err
	}
	unchanged, err = b.upsert(ctx, fresh)
	if err != nil {
		return err
	}
	if len(unchanged) > 0 {
		return fmt.Errorf("%w: email %v did not take events it has not counted, though its row is locked: "+
			"does something other than mailtally write mailtally.email?", errUnexpected, unchanged[0].keys[0].email)
	}
	return nil
}

// upsertEmails is the guarantee. For each email: a row that is not there is
// made; a row that has counted none of these events takes them; a row that has
// counted any of them, or that would hold too many hashes, stays as it is, is
// not returned, and is locked by this transaction all the same (the chapter on
// INSERT: "all rows will be locked when the ON CONFLICT DO UPDATE action is
// taken, even those that do not satisfy the WHERE").
//
// A crowded delta's events have been found new in email_event_seen, under the
// row's lock, before this runs: it has nothing to test.
//
// The hashes of all emails come in one flat array, since unnest would flatten
// an array of arrays; each row takes its slice. The arrays are unnested side by
// side in a select list: one unnest of them all, in FROM, makes a tuplestore an
// array and costs the server a fifth more.
const upsertEmails = `
INSERT INTO mailtally.email AS e
       (id, scheduled_at, sent_at, delivered_at, delivery_delayed_at, opened_at, clicked_at,
        bounced_at, complained_at, failed_at, suppressed_at, last_opened_at, last_clicked_at,
        open_count, click_count, crowded, seen)
SELECT id, scheduled_at, sent_at, delivered_at, delivery_delayed_at, opened_at, clicked_at,
       bounced_at, complained_at, failed_at, suppressed_at, last_opened_at, last_clicked_at,
       open_count, click_count, crowded, ($17::bigint[])[seen_from:seen_to]
  FROM (SELECT unnest($1::uuid[])         AS id,
               unnest($2::timestamptz[])  AS scheduled_at,
               unnest($3::timestamptz[])  AS sent_at,
               unnest($4::timestamptz[])  AS delivered_at,
               unnest($5::timestamptz[])  AS delivery_delayed_at,
               unnest($6::timestamptz[])  AS opened_at,
               unnest($7::timestamptz[])  AS clicked_at,
               unnest($8::timestamptz[])  AS bounced_at,
               unnest($9::timestamptz[])  AS complained_at,
               unnest($10::timestamptz[]) AS failed_at,
               unnest($11::timestamptz[]) AS suppressed_at,
               unnest($12::timestamptz[]) AS last_opened_at,
               unnest($13::timestamptz[]) AS last_clicked_at,
               unnest($14::integer[])     AS open_count,
               unnest($15::integer[])     AS click_count,
               unnest($16::boolean[])     AS crowded,
               unnest($18::integer[])     AS seen_from,
               unnest($19::integer[])     AS seen_to) AS d
    ON CONFLICT (id) DO UPDATE
   SET scheduled_at        = least(e.scheduled_at, excluded.scheduled_at),
       sent_at             = least(e.sent_at, excluded.sent_at),
       delivered_at        = least(e.delivered_at, excluded.delivered_at),
       delivery_delayed_at = least(e.delivery_delayed_at, excluded.delivery_delayed_at),
       opened_at           = least(e.opened_at, excluded.opened_at),
       clicked_at          = least(e.clicked_at, excluded.clicked_at),
       bounced_at          = least(e.bounced_at, excluded.bounced_at),
       complained_at       = least(e.complained_at, excluded.complained_at),
       failed_at           = least(e.failed_at, excluded.failed_at),
       suppressed_at       = least(e.suppressed_at, excluded.suppressed_at),
       last_opened_at      = greatest(e.last_opened_at, excluded.last_opened_at),
       last_clicked_at     = greatest(e.last_clicked_at, excluded.last_clicked_at),
       open_count          = e.open_count + excluded.open_count,
       click_count         = e.click_count + excluded.click_count,
       crowded             = excluded.crowded,
       seen                = CASE WHEN excluded.crowded THEN '{}' ELSE e.seen || excluded.seen END
 WHERE excluded.crowded
    OR (NOT e.crowded
        AND NOT e.seen && excluded.seen
        AND cardinality(e.seen) + cardinality(excluded.seen) <= $20::integer)
RETURNING id, open_count, click_count`

// upsert applies list, which is in id order, in one round trip with the
// statements of before, and gives the deltas that it did not apply. The first
// open of an email is where the row's count equals the delta's own.
func (b *batch) upsert(ctx context.Context, list []delta, before ...string) (unchanged []delta, err error) {
	var pipeline pgconn.Batch
	for _, sql := range before {
		pipeline.ExecParams(sql, nil, nil, nil, nil)
	}
	pipeline.ExecParams(upsertEmails, upsertParams(list, b.limit), nil, binaryFormat, binaryFormat)
	results, err := b.roundTrip(ctx, &pipeline)
	if err != nil {
		return nil, fmt.Errorf("upsert %d emails: %w", len(list), err)
	}
	for _, r := range results[:len(before)] {
		if len(r.Rows) == 1 {
			b.xid = string(r.Rows[0][0])
		}
	}
	next := 0
	for _, row := range results[len(before)].Rows {
		id := uuid.UUID(row[0])
		for list[next].keys[0].email != id {
			unchanged = append(unchanged, list[next])
			next++
		}
		d := &list[next]
		next++
		b.applied = append(b.applied, d.keys...)
		if d.opens > 0 && int32(binary.BigEndian.Uint32(row[1])) == d.opens {
			b.firstOpens++
		}
		if d.clicks > 0 && int32(binary.BigEndian.Uint32(row[2])) == d.clicks {
			b.firstClicks++
		}
	}
	return append(unchanged, list[next:]...), nil
}

// roundTrip sends the statements of a pipeline together and gives their
// results, or the error of the first that failed.
func (b *batch) roundTrip(ctx context.Context, pipeline *pgconn.Batch) ([]*pgconn.Result, error) {
	results, err := b.conn.ExecBatch(ctx, pipeline).ReadAll()
	for _, r := range results {
		err = cmp.Or(err, r.Err)
	}
	return results, err
}

var binaryFormat = []int16{1}

func upsertParams(list []delta, limit int) [][]byte {
	hashes := 0
	for i := range list {
		hashes += len(list[i].keys)
	}
	ids := newArray(oidUUID, len(list), 16)
	var times [12]arrayParam
	for i := range times {
		times[i] = newArray(oidTimestamptz, len(list), 8)
	}
	opens, clicks := newArray(oidInt4, len(list), 4), newArray(oidInt4, len(list), 4)
	crowded := newArray(oidBool, len(list), 1)
	seen := newArray(oidInt8, hashes, 8)
	from, to := newArray(oidInt4, len(list), 4), newArray(oidInt4, len(list), 4)

	for i := range list {
		d := &list[i]
		ids.uuid(d.keys[0].email)
		for t := Scheduled; t < typeEnd; t++ {
			times[t-Scheduled].time(d.first[t])
		}
		times[10].time(d.lastOpen)
		times[11].time(d.lastClick)
		opens.int4(d.opens)
		clicks.int4(d.clicks)
		crowded.bool(d.crowded)
		from.int4(int32(seen.n) + 1)
		if !d.crowded {
			for _, k := range d.keys {
				seen.int8(k.hash)
			}
		}
		to.int4(int32(seen.n)) // before from, hence an empty slice, if crowded
	}

	params := make([][]byte, 0, 20)
	params = append(params, ids.bytes())
	for i := range times {
		params = append(params, times[i].bytes())
	}
	params = append(params, opens.bytes(), clicks.bytes(), crowded.bytes(), seen.bytes(), from.bytes(), to.bytes())
	return append(params, binary.BigEndian.AppendUint32(nil, uint32(limit)))
}

// appendHistory takes the new events and commits. One round trip: the second
// statement waits in the first one's query.
const appendHistory = `
COPY mailtally.email_event (email_id, occurred_at, type, event_id, link, ip, user_agent, reason, message)
FROM STDIN (FORMAT binary);
COMMIT`

func (b *batch) appendHistoryAndCommit(ctx context.Context) error {
	rows := newCopyRows(256 * len(b.applied))
	for _, k := range b.applied {
		rows.event(&b.events[k.event])
	}
	tag, err := b.conn.CopyFrom(ctx, bytes.NewReader(rows.bytes()), appendHistory)
	switch {
	case err != nil:
		b.unsure = b.conn.IsClosed()
		return fmt.Errorf("append %d events and commit: %w", len(b.applied), err)
	case tag.String() != "COMMIT":
		return fmt.Errorf("append %d events and commit: %w: the server answered %q", len(b.applied), errUnexpected, tag)
	}
	return nil
}

// result is the batch's, once it is committed.
func (b *batch) result() Result {
	r := Result{FirstOpens: b.firstOpens, FirstClicks: b.firstClicks}
	for i := range b.events {
		r.Duplicate[b.events[i].Type]++
	}
	for _, k := range b.applied {
		t := b.events[k.event].Type
		r.Applied[t]++
		r.Duplicate[t]--
	}
	return r
}
