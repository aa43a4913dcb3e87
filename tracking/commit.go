package tracking

import (
	"context"
	"errors"
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

// committed asks, on another connection, whether a batch whose connection was lost during
// the commit is committed, and by us. It asks until the server knows, for as long as ctx
// lasts and a few seconds more, since the end of ctx may be what cut the connection.
//
// The transaction id alone does not prove it: after a crash, a server may reuse the id of
// a transaction that it has forgotten. So the rows decide whether the events are counted,
// and the id decides whose they are to report.
func (s *Store) committed(ctx context.Context, b *batch) bool {
	status, err := s.fate(ctx, b.xid)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err != nil {
		status, err = s.fate(ctx, b.xid)
	}
	if err != nil || status != "committed" {
		return false
	}
	missing := true
	err = s.Pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		var p pipeline // its own transaction
		p.add(s.settings(), nil, nil)
		p.add(missingEvents, keyParams(b.newKeys()), func(row [][]byte) { missing = row[0][0] != 0 })
		return p.roundTrip(ctx, conn.Conn().PgConn())
	})
	return err == nil && !missing
}

// newKeys are the keys of the batch's new events.
func (b *batch) newKeys() []key {
	var applied []Event
	for i, isNew := range b.isNew {
		if isNew {
			applied = append(applied, b.events[i])
		}
	}
	return sortedKeys(applied)
}

// fate returns how the transaction ended, asking until it has or ctx ends.
func (s *Store) fate(ctx context.Context, xid string) (string, error) {
	return backoff.Retry(ctx, func() (status string, err error) {
		err = s.Pool.QueryRow(ctx, "SELECT coalesce(pg_xact_status($1::text::xid8), 'too long ago')", pgx.QueryExecModeExec, xid).Scan(&status)
		var pg *pgconn.PgError
		switch {
		case err == nil && status == "in progress":
			err = errors.New(status)
		case errors.As(err, &pg) && sqlClass(pg) == "22": // an id from the future: another server's, after a failover
			err = backoff.Permanent(err)
		}
		return status, err
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 20 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: time.Second,
	}), backoff.WithMaxElapsedTime(0))
}
