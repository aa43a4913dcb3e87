package tracking

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
)

// appendNothing is appendHistory that checks everything COMMIT would, and rolls back.
const appendNothing = copyHistory + `
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK`

// takesOthers tells whether it is the batch's only event that PostgreSQL did not accept, for
// the reason failed. It may be the database: the SQLSTATE of a value that is too long also
// stands for a server that protects itself from transaction ids that wrap around. So a
// harmless event goes the same way, on the same connection, up to its commit: one of
// another email, of the same type and time, without content.
//
// That a harmless event violates the same check constraint shows nothing: what may be
// stored is the operator's decision, and the check may ask for content.
func (s *Store) takesOthers(ctx context.Context, b *batch, failed error) bool {
	if b.conn.IsClosed() {
		return false
	}
	if _, err := b.conn.Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
		return false
	}
	e := b.events[0]
	harmless := Event{EmailID: uuid.New(), EventID: uuid.NewString(), Type: e.Type, OccurredAt: e.OccurredAt}
	if e.ProviderEmailID != "" {
		harmless.ProviderEmailID = uuid.NewString()
	}
	probe := batch{conn: b.conn, events: []Event{harmless}, limit: b.limit, isNew: make([]bool, 1)}
	err := probe.tally(ctx, s.settings())
	if err == nil {
		_, err = probe.copy(ctx, appendNothing)
	}
	return err == nil || violatedCheck(err) != "" && violatedCheck(err) == violatedCheck(failed)
}

// violatedCheck is the name of the check constraint that was violated, if that is the
// error. (PostgreSQL reports a missing partition as the same, without a name.)
func violatedCheck(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23514" {
		return pg.ConstraintName
	}
	return ""
}
