package baseline

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// ReadModifyWrite reads the row, changes the copy, and writes it back. It is
// what an ORM's load and save come to, and it is wrong.
//
//	writer A                     writer B
//	reads  click_count 0
//	                             reads  click_count 0
//	writes click_count 1
//	                             writes click_count 1
//
// Whoever writes last overwrites all that the other one counted in between: its
// click, and its open though it was the first. Nobody gets an error. A
// transaction around the two statements changes nothing about that: READ
// COMMITTED, the default, lets both of them read before either writes.
//
// It even overwrites what it doesn't change, since it writes the whole row.
type ReadModifyWrite struct {
	// BetweenReadAndWrite is called there, if it is set: tests bring about by it
	// what is otherwise a matter of luck.
	BetweenReadAndWrite func()
}

// Apply counts e, and sometimes uncounts others.
func (w ReadModifyWrite) Apply(ctx context.Context, pool *pgxpool.Pool, e tracking.Event) error {
	r, err := read(ctx, pool, e.EmailID)
	if err != nil {
		return err
	}
	if w.BetweenReadAndWrite != nil {
		w.BetweenReadAndWrite()
	}
	if !r.count(e) {
		return nil
	}
	return write(ctx, pool, e.EmailID, r)
}
