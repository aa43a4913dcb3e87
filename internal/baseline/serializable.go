package baseline

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// Serializable reads and writes in a transaction that PostgreSQL refuses if another one
// interfered, and retries until it succeeds.
//
// It is right as long as everybody who writes the row is serializable, and retries. The
// cost is the repeated work: of n writers that meet at one email, one gets through at a
// time, so n events take some n²/2 attempts. And writers collide that have nothing in
// common, since PostgreSQL remembers reads by index page when there are many, or when
// no row was found.
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

// conflict tells whether a transaction failed because of concurrent ones, and so may
// succeed if it is retried.
func conflict(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01") // serialization_failure, deadlock_detected
}
