package tracking

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// endZombies terminates transactions that have been in the middle of COPY's data for
// longer than any statement may take: their writers are stopped and hold rows that others
// wait for. A role may terminate its own sessions. It is called when a batch was not
// applied in time, and does no harm if that had another cause.
func (s *Store) endZombies(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	// The batch's own error is reported; this call helps the next batch.
	_, _ = s.Pool.Exec(ctx, `
		SELECT pg_terminate_backend(pid)
		  FROM pg_stat_activity
		 WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
		   AND state = 'active' AND wait_event = 'ClientRead'
		   AND query LIKE '%COPY mailtally.email_event %'
		   AND query_start < clock_timestamp() - $1 * interval '1 ms'`,
		pgx.QueryExecModeExec, s.timeout().Milliseconds())
}

// NoteWarning must be the OnNotice of the connections of a Store's pool. When the wait for a
// synchronous standby is cancelled, as by pg_cancel_backend, PostgreSQL answers the COMMIT
// as ever: only a warning beside it says that no standby may have it.
func NoteWarning(conn *pgconn.PgConn, notice *pgconn.Notice) {
	if notice.SeverityUnlocalized == "WARNING" {
		conn.CustomData()[warned] = true
	}
}

// warned is the key in a connection's CustomData that says there was a warning.
const warned = "mailtally: warned"

// confirm returns nil once it knows that a batch with an unsure commit is committed, by us,
// and as durably as PostgreSQL is set to. Otherwise it returns an error: failed, if that is
// why the batch is not committed. It asks for as long as ctx lasts and a few seconds more,
// since the end of ctx may be what cut the connection.
func (s *Store) confirm(ctx context.Context, b *batch, failed error) error {
	committed, err := s.durable(ctx, b)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		committed, err = s.durable(ctx, b)
	}
	switch {
	case err != nil && failed != nil:
		return fmt.Errorf("%w; whether it is committed, on a synchronous standby too, is not known: %w", failed, err)
	case err != nil:
		return fmt.Errorf("committed, but its wait for a synchronous standby was cancelled, and no later commit has confirmed it: %w", err)
	case !committed && failed == nil:
		return fmt.Errorf("%w: the server that has committed it is gone, and the one that took over does not have it", errUnexpected)
	case !committed:
		return failed
	}
	return nil
}

// fateOf tells how a transaction ended and, if it is committed, writes something: a commit
// that has written nothing would not wait for a synchronous standby.
const fateOf = `
SELECT coalesce(fate, 'too long ago'), CASE fate WHEN 'committed' THEN pg_logical_emit_message(true, 'mailtally', 'confirm') END
  FROM (SELECT pg_xact_status($1::text::xid8) AS fate) AS x`

// durable tells whether the batch is committed, by us, and nothing that PostgreSQL is set
// to survive can undo that. It asks until it knows or ctx ends.
//
// The transaction id alone does not prove it: after a crash, a server may reuse the id of
// a transaction that it has forgotten. So the rows decide whether the events are counted,
// and the id decides whose they are to report.
//
// Rows that can be seen need not be on a synchronous standby, and a failover may lose them:
// a cut or cancelled wait for the standby, or a restart, makes a commit visible without
// it. But a later commit that was waited for to the end covers all that its transaction
// has seen. So one transaction looks and commits.
func (s *Store) durable(ctx context.Context, b *batch) (bool, error) {
	var fate string
	var missing bool
	return backoff.Retry(ctx, func() (bool, error) {
		err := s.Pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
			conn := c.Conn().PgConn()
			delete(conn.CustomData(), warned)
			var p pipeline
			p.add("BEGIN ISOLATION LEVEL READ COMMITTED", nil, nil)
			p.add(s.settings(), nil, nil)
			p.add(fateOf, [][]byte{[]byte(b.xid)}, func(row [][]byte) { fate = string(row[0]) })
			p.add(missingEvents, keyParams(sortedKeys(b.events)), func(row [][]byte) { missing = row[0][0] != 0 })
			p.add("COMMIT", nil, nil)
			err := p.roundTrip(ctx, conn)
			if err == nil && conn.CustomData()[warned] != nil {
				err = errors.New("its wait for a synchronous standby was cancelled as well")
			}
			return err
		})
		var pg *pgconn.PgError
		switch {
		case errors.As(err, &pg) && sqlClass(pg) == "22": // an id from the future: another server's, after a failover
			return false, nil
		case err == nil && fate == "in progress":
			err = errors.New("the transaction has not ended")
		}
		return fate == "committed" && !missing, err
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 20 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: time.Second,
	}), backoff.WithMaxElapsedTime(0))
}
