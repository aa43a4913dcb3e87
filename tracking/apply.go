package tracking

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DefaultSeenLimit is how many event hashes an email's row holds before they
// move to email_event_seen. A row write costs 20 µs with 3 of them and 64 µs with
// 1,000; fewer than one email in thousands gets past 64.
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
// The transaction is two round trips, and one or two more where there are
// duplicates or full rows.
func (s *Store) Apply(ctx context.Context, events []Event) (Result, error) {
	if len(events) == 0 {
		return Result{}, nil
	}
	b := batch{
		events: events,
		limit:  cmp.Or(s.SeenLimit, DefaultSeenLimit),
		isNew:  make([]bool, len(events)),
	}
	// A connection that comes back in a failed or open transaction is closed, not
	// reused, which rolls back.
	err := s.Pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		b.conn = conn.Conn().PgConn()
		if err := b.tally(ctx, s.settings()); err != nil {
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
	limit  int // of hashes in a row

	xid    string // the transaction's id, to ask for its fate
	unsure bool   // the connection was lost at the commit
	isNew  []bool // by event

	firstOpens, firstClicks int
}

// settings are the transaction's. The time-outs are the server's: a writer that is
// stopped or cut off half-way holds its rows' locks, and everyone who meets the
// same emails waits for it. Between two statements it gets five seconds, long
// against a round trip and short against an alert; for one, as long as a batch
// may take. Where its machine is gone, keep-alives tell. In the middle of COPY's
// data none of these ends it: that is what endZombies is for. All settings are
// local to the transaction, for the sake of pooling proxies.
//
// Rows are looked up by their keys even in tables of a few pages, which the
// planner would rather read whole: it would do so for each of thousands.
func (s *Store) settings() string {
	return fmt.Sprintf(`
SELECT pg_current_xact_id()::text,
       set_config('idle_in_transaction_session_timeout', '5s', true),
       set_config('statement_timeout', '%dms', true),
       set_config('tcp_keepalives_idle', '5', true),
       set_config('tcp_keepalives_interval', '2', true),
       set_config('tcp_keepalives_count', '3', true),
       set_config('client_encoding', 'UTF8', true),
       set_config('enable_seqscan', 'off', true)`, s.timeout().Milliseconds())
}

const defaultTimeout = 30 * time.Second

// timeout is the most that a statement may take.
func (s *Store) timeout() time.Duration { return cmp.Or(s.statementTimeout, defaultTimeout) }

// tally begins the transaction and changes the rows of mailtally.email, in two
// passes.
//
// The first tries every email at once. What it did not change holds at least one
// of the events already, or is full, or has become so by this batch, or had hashes
// moved meanwhile: few, and locked by now. The second pass asks which of their
// events are new and applies those; nobody can come between, so it cannot fail to.
func (b *batch) tally(ctx context.Context, settings string) error {
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

	var first pipeline
	first.add("BEGIN ISOLATION LEVEL READ COMMITTED", nil, nil)
	first.add(settings, nil, func(row [][]byte) { b.xid = string(row[0]) })
	unchanged, err := b.upsert(ctx, &first, all, false)
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
	var second pipeline
	fresh, err := b.unknown(ctx, rest, &second)
	if err != nil || len(fresh) == 0 {
		return err
	}
	unchanged, err = b.upsert(ctx, &second, fresh, true)
	if err != nil {
		return err
	}
	if len(unchanged) > 0 {
		return fmt.Errorf("%w: email %v did not take events it has not counted, though its row is locked: "+
			"does something other than mailtally write mailtally.email?", errUnexpected, unchanged[0].keys[0].email)
	}
	return nil
}

// pipeline is statements that travel together, each with what becomes of its
// rows. A row is valid until the function returns.
type pipeline struct {
	batch pgconn.Batch
	onRow []func(row [][]byte)
}

func (p *pipeline) add(sql string, params [][]byte, onRow func(row [][]byte)) {
	p.batch.ExecParams(sql, params, nil, binaryFormat, binaryFormat)
	p.onRow = append(p.onRow, onRow)
}

var binaryFormat = []int16{1}

// roundTrip runs the statements, or gives the error of the first that failed.
func (p *pipeline) roundTrip(ctx context.Context, conn *pgconn.PgConn) error {
	results := conn.ExecBatch(ctx, &p.batch)
	for _, onRow := range p.onRow {
		if !results.NextResult() {
			break
		}
		for r := results.ResultReader(); r.NextRow(); {
			if onRow != nil {
				onRow(r.Values())
			}
		}
	}
	return results.Close()
}

// result is the batch's, once it is committed.
func (b *batch) result() Result {
	r := Result{FirstOpens: b.firstOpens, FirstClicks: b.firstClicks}
	for i := range b.events {
		if b.isNew[i] {
			r.Applied[b.events[i].Type]++
		} else {
			r.Duplicate[b.events[i].Type]++
		}
	}
	return r
}
