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

// DefaultSeenLimit is how many event hashes an email's row holds before they move to
// email_event_seen. Writing a row costs 20 µs with 3 of them and 64 µs with 1,000;
// fewer than one email in thousands exceeds 64.
const DefaultSeenLimit = 64

// Store writes the tally. It is safe for concurrent use by any number of
// goroutines and processes.
type Store struct {
	// Pool may connect through a transaction-pooling proxy: no statement leaves session
	// state behind. The OnNotice of its connections must be [NoteWarning].
	Pool *pgxpool.Pool
	// SeenLimit overrides DefaultSeenLimit, for tests. Stores with different limits may
	// write the same tables.
	SeenLimit int

	// Override defaultTimeout and defaultLockTimeout in tests.
	statementTimeout, lockTimeout time.Duration
}

// Counts has a number for each [Type].
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
	// Applied and Duplicate add up to the number of events given.
	Applied, Duplicate Counts
	// FirstOpens and FirstClicks are the numbers of emails whose first open or click was
	// in this batch. Each email's is reported once, across all writers.
	FirstOpens, FirstClicks int
}

// Apply applies events to the tally in one transaction. When it returns nil they are
// committed, and each new one is counted once; known ones are not counted again. When it
// returns an error, nothing is committed, and the same events may be applied again, here
// or by any other writer: see [RetryReason]. Given a single event, Apply also finds out
// whether it is the event that PostgreSQL does not accept, rather than any: then the error is
// a *[RefusedError], which will recur, or a *[HeldUpError], which may pass.
//
// Where PostgreSQL is set to wait for a synchronous standby, committed means that one has
// it. If the connection is lost during the commit, or its wait for the standby is cancelled,
// so that the outcome is unknown, Apply asks the database, and waits for a later commit,
// until ctx ends and a few seconds longer. If that is not enough, the error means "perhaps".
// Applying again is still right, as always, but if the transaction did commit, the new
// events count as duplicates, and their first opens and clicks are never reported.
//
// The transaction takes two round trips, and one or two more if there are duplicates or
// full rows.
func (s *Store) Apply(ctx context.Context, events []Event) (Result, error) {
	if len(events) == 0 {
		return Result{}, nil
	}
	b := batch{
		events: events,
		limit:  cmp.Or(s.SeenLimit, DefaultSeenLimit),
		isNew:  make([]bool, len(events)),
	}
	alone := false // the only event is at fault
	// A connection released in a failed or open transaction is closed rather than reused,
	// which rolls back.
	err := s.Pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		b.conn = conn.Conn().PgConn()
		err := b.tally(ctx, s.settings())
		if err == nil {
			err = b.appendHistoryAndCommit(ctx)
		}
		alone = err != nil && len(events) == 1 && s.takesOthers(ctx, &b, err)
		return err
	})
	if b.unsure {
		err = s.confirm(ctx, &b, err)
	}
	if err != nil {
		// If ctx was cancelled, rather than timed out, there is no next batch.
		if RetryReason(err) == RetryTimeout && !errors.Is(ctx.Err(), context.Canceled) {
			s.endZombies(ctx)
		}
		return Result{}, fmt.Errorf("tracking: apply %d events: %w", len(events), classify(err, alone))
	}
	return b.result(), nil
}

// batch is the state of one Apply.
type batch struct {
	conn   *pgconn.PgConn
	events []Event
	limit  int // most hashes in a row

	xid    string // the transaction's id, to ask how it ended
	unsure bool   // the connection was lost during the commit, or there was a warning
	isNew  []bool // by event

	firstOpens, firstClicks int
}

// settings sets up the transaction. The timeouts are the server's: a writer that is
// stopped or cut off midway holds its rows' locks, and everyone who needs the same emails
// waits for it. Between two statements it gets five seconds, long against a round trip
// and short against an alert; for one statement, as long as a batch may take. If its
// machine is gone, keep-alives find out. None of these ends it in the middle of COPY's
// data; that is what endZombies is for. Those who wait for a row, on the other hand, give
// up soon and let the caller find which it is, so that the other rows need not wait. All
// settings are local to the transaction, because of pooling proxies.
//
// Rows are looked up by key even in tables of a few pages, where the planner would prefer
// a sequential scan, and would do one for each of thousands of look-ups.
//
// Where row level security would hide rows from this role, PostgreSQL is to refuse the
// statement instead: an event whose hash is hidden would count again.
func (s *Store) settings() string {
	return fmt.Sprintf(`
SELECT pg_current_xact_id()::text,
       set_config('idle_in_transaction_session_timeout', '5s', true),
       set_config('statement_timeout', '%dms', true),
       set_config('lock_timeout', '%dms', true),
       set_config('tcp_keepalives_idle', '5', true),
       set_config('tcp_keepalives_interval', '2', true),
       set_config('tcp_keepalives_count', '3', true),
       set_config('client_encoding', 'UTF8', true),
       set_config('row_security', 'off', true),
       set_config('client_min_messages', 'warning', true),
       set_config('enable_seqscan', 'off', true)`,
		s.timeout().Milliseconds(), cmp.Or(s.lockTimeout, defaultLockTimeout).Milliseconds())
}

const (
	defaultTimeout     = 30 * time.Second
	defaultLockTimeout = time.Second
)

// timeout is the longest that a statement may take.
func (s *Store) timeout() time.Duration { return cmp.Or(s.statementTimeout, defaultTimeout) }

// tally begins the transaction and updates the rows of mailtally.email, in two passes.
//
// The first pass tries every email at once. The few rows that it leaves unchanged already
// hold at least one of the events, or are full, or would be with this batch, or had
// hashes moved meanwhile; they are now locked. The second pass finds out which of their
// events are new and applies those. Nobody can intervene, so it cannot fail to.
func (b *batch) tally(ctx context.Context, settings string) error {
	all := deltas(sortedKeys(b.events), b.events)
	var rest []key
	for i := range all {
		// There are more events than a row may remember: the first ones go into the row,
		// which creates and locks it, and the second pass handles the others.
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
	if len(unchanged) > 0 { // though its row is locked, and has not counted them
		return notTaken(unchanged[0].keys[0].email)
	}
	return nil
}

// pipeline is a set of statements sent together, each with a callback for its rows. A row
// is valid until the callback returns.
type pipeline struct {
	batch pgconn.Batch
	onRow []func(row [][]byte)
}

func (p *pipeline) add(sql string, params [][]byte, onRow func(row [][]byte)) {
	p.batch.ExecParams(sql, params, nil, binaryFormat, binaryFormat)
	p.onRow = append(p.onRow, onRow)
}

var binaryFormat = []int16{1}

// roundTrip runs the statements and returns the error of the first that failed.
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

// result is the batch's Result, once it is committed.
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
