package tracking

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// moveTimeout is how long a month's events may take to move out of the default partition,
// which is locked meanwhile.
const moveTimeout = defaultTimeout

// EnsurePartitions creates the missing partitions of email_event: for the month before
// now, that of now and the next two, and for up to 16 months whose events have gone to the
// default partition because there was no other. Those events move.
//
// One month after the other is a transaction of its own. It locks the default partition,
// so that readers of the whole history wait, and [Store.Apply] with strays gives up after
// a second, for as long as the events take to move (30 s at most) and for two seconds at
// most while somebody else reads it. Batches that have no stray continue.
//
// If it fails it can be called again: until a month has its partition, its events go to
// the default one. made lists the partitions that it created.
func EnsurePartitions(ctx context.Context, pool *pgxpool.Pool, now time.Time) (made []string, err error) {
	rows, _ := pool.Query(ctx, "SELECT mailtally.missing_partitions($1)", pgx.QueryExecModeExec, now)
	months, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return nil, fmt.Errorf("tracking: look for months without a partition: %w", withoutData(err))
	}
	var failed []error
	for _, month := range months {
		isNew, err := makePartition(ctx, pool, month)
		if err != nil {
			failed = append(failed, fmt.Errorf("tracking: create the partition for %s: %w", month.UTC().Format("2006-01"), withoutData(err)))
		}
		if isNew {
			made = append(made, "email_event_"+month.UTC().Format("2006_01"))
		}
		if lockTimedOut(err) { // as it would for the next month, and readers would wait again
			break
		}
	}
	return made, errors.Join(failed...)
}

func makePartition(ctx context.Context, pool *pgxpool.Pool, month time.Time) (isNew bool, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT set_config('statement_timeout', $1, true)", pgx.QueryExecModeExec, fmt.Sprintf("%dms", moveTimeout.Milliseconds()))
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT mailtally.make_partition($1)", pgx.QueryExecModeExec, month).Scan(&isNew)
	})
	return isNew && err == nil, err
}
