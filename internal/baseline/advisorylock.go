package baseline

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// lockEmail must be a statement of its own, before the one that reads: a statement sees
// what was committed when it began, not when it got the lock.
const lockEmail = `SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text, 0))`

// AdvisoryLock reads and writes under a lock on the email's id, held to the end of the
// transaction.
//
// It is right as long as everybody who writes the row takes that lock, with that hash,
// in READ COMMITTED. The database does not know the rule, and whoever forgets it gets
// no error. It is slow: five round trips per event, during which everybody with an
// event of the same email waits, each holding a connection of the pool. So a single
// popular email can hold up every other. A writer that is cut off halfway keeps its
// lock until the server notices.
func AdvisoryLock(ctx context.Context, pool *pgxpool.Pool, e tracking.Event) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockEmail, e.EmailID); err != nil {
			return fmt.Errorf("baseline: lock email %s: %w", e.EmailID, err)
		}
		r, err := read(ctx, tx, e.EmailID)
		if err != nil {
			return err
		}
		if !r.count(e) {
			return nil
		}
		return write(ctx, tx, e.EmailID, r)
	})
}
