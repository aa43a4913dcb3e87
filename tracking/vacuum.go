package tracking

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// VacuumHorizon returns the oldest transaction that somebody may still want to see the
// tables as of, and the next one to begin. Vacuum removes no version of a row that was
// replaced since oldest, so an email that is written all the time has more and more of them to
// be read past.
//
// It needs no rights: everybody may see the snapshots of all sessions, though not whose
// they are. Sessions count if they are in this database, or in none (standbys with
// hot_standby_feedback); transactions that write count in any, since they are in every
// snapshot. A running VACUUM holds nothing back.
func VacuumHorizon(ctx context.Context, pool *pgxpool.Pool) (oldest, next int64, err error) {
	err = pool.QueryRow(ctx, `
		SELECT next - max(age(held)), next
		  FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next) AS x,
		       (SELECT backend_xmin FROM pg_stat_activity
		         WHERE coalesce(datname = current_database(), true)
		           AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
		        UNION ALL SELECT transaction FROM pg_prepared_xacts
		        UNION ALL SELECT xmin FROM pg_replication_slots) AS y(held)
		 GROUP BY next`,
		pgx.QueryExecModeExec).Scan(&oldest, &next)
	if err != nil {
		return 0, 0, fmt.Errorf("tracking: find the oldest transaction that holds back vacuum: %w", err)
	}
	return oldest, next, nil
}
