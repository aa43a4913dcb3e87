package baseline

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// ReadModifyWrite reads the row, changes the copy, and writes it back. This is what an
// ORM's load and save amount to, and it is wrong.
//
//	writer A                     writer B
//	reads  click_count 0
//	                             reads  click_count 0
//	writes click_count 1
//	                             writes click_count 1
//
// Whoever writes last overwrites all that the other counted in between: its click, and
// its open even if that was the first. Nobody gets an error. A transaction around the
// two statements does not help: READ COMMITTED, the default, lets both of them read
// before either writes.
//
// It even overwrites columns that it did not change, since it writes the whole row.
type ReadModifyWrite struct {
	// BetweenReadAndWrite, if set, is called there: tests use it to force what is
	// otherwise a matter of luck.
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
