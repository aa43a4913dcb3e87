package tracking

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// lockTimedOut reports whether PostgreSQL gave up a wait for a lock (lock_not_available).
func lockTimedOut(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "55P03"
}

// Which locks [withHolder] looks for.
var (
	migrationKeyHolder = fmt.Sprintf(`l.locktype = 'advisory' AND l.objsubid = 1
		AND l.classid::bigint << 32 | l.objid::bigint = %d`, migrationKey)
	tableHolder = `l.locktype = 'relation'
		AND l.relation IN (SELECT oid FROM pg_class WHERE relnamespace = 'mailtally'::regnamespace)`
)

// withHolder adds to err, of a wait for a lock that was given up, who has held such a lock
// for longest and how to end that. It asks on another connection, after the fact: if
// nobody does any more, it says so.
func withHolder(ctx context.Context, pool *pgxpool.Pool, err error, which string) error {
	type holder struct {
		PID                      *int32 // null for a prepared transaction
		Application, Role, State *string
		Since                    *time.Time
	}
	// Without pg_read_all_stats, the state and times of other roles' sessions are null.
	rows, _ := pool.Query(ctx, `
		SELECT l.pid, a.application_name, a.usename, a.state,
		       date_trunc('second', coalesce(a.xact_start, a.state_change, a.backend_start))
		  FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
		 WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
		   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		   AND `+which+`
		 ORDER BY 5 NULLS LAST, 1
		 LIMIT 1`, pgx.QueryExecModeExec)
	h, asked := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[holder])
	switch {
	case errors.Is(asked, pgx.ErrNoRows):
		return fmt.Errorf("%w: whoever held the lock has released it since", err)
	case asked != nil:
		return fmt.Errorf("%w (who holds the lock is not known: %w)", err, asked)
	case h.PID == nil:
		return fmt.Errorf("%w: a prepared transaction holds the lock: see pg_prepared_xacts, then COMMIT PREPARED or ROLLBACK PREPARED", err)
	}
	since := "?"
	if h.Since != nil {
		since = h.Since.UTC().Format(time.RFC3339)
	}
	return fmt.Errorf("%w: PostgreSQL process %d holds the lock (application %q, role %s, %s since %s): "+
		"let it finish, or end it with SELECT pg_terminate_backend(%d)",
		err, *h.PID, said(h.Application), said(h.Role), said(h.State), since, *h.PID)
}

func said(s *string) string {
	if s == nil || *s == "" {
		return "?"
	}
	return *s
}
