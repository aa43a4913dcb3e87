package baseline

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// Serializable reads and writes in a transaction that PostgreSQL refuses if
// another one came between, and does it again until it is not refused.
//
// It is right as long as everybody who writes the row is serializable, and
// retries. What it costs is the work done again: of n writers that meet at one
// email, one gets through at a time, so n events take some n²/2 attempts. And
// writers collide that have nothing in common, since what was read is remembered
// by index page where it is much, or where no row was found.
func Serializable(ctx context.Context, pool *pgxpool.Pool, e tracking.Event) error {
	for {
		err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
			r, err := read(ctx, tx, e.EmailID)
			if err != nil {
				return err
			}
			if !r.count(e) {
				return nil
			}
			return write(ctx, tx, e.EmailID, r)
		})
		if !conflict(err) {
			return err
		}
	}
}

// conflict reports whether a transaction failed for what others did at the same
// time, and so may succeed if it is done again.
func conflict(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01") // serialization_failure, deadlock_detected
}
