package baseline

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// lockEmail must be a statement of its own, ahead of the one that reads: a
// statement sees what was committed when it began, not when it got the lock.
const lockEmail = `SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text, 0))`

// AdvisoryLock reads and writes under a lock on the email's id, held to the end
// of the transaction.
//
// It is right as long as everybody who writes the row takes that lock, with that
// hash, in READ COMMITTED: the database knows nothing of the rule, and whoever
// forgets it gets no error. It is slow: five round trips an event, during which
// all others wait who have events of the same email, each with a connection of
// the pool in its hand. One email that all the world opens can so hold up every
// other. A writer that is cut off in the middle keeps its lock until the server
// notices.
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
