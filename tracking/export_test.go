package tracking

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// MigrateTo migrates to an older version, as an older program would have.
func MigrateTo(ctx context.Context, pool *pgxpool.Pool, version int64) error {
	if version == 0 {
		return nil
	}
	return migrateTo(ctx, pool, version, 0)
}

// UnlockMigrations unlocks on a connection that does not hold the lock.
func UnlockMigrations(ctx context.Context, pool *pgxpool.Pool) error {
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return migrationLock{}.SessionUnlock(ctx, conn)
}

// NeededVersion is the schema's version that this program needs.
var NeededVersion = neededVersion

// SetTimeout replaces the longest that a statement may take.
func (s *Store) SetTimeout(d time.Duration) { s.statementTimeout = d }

// Patient is a Store whose writers wait for each other's rows, however slow the machine is.
func Patient(s Store) *Store {
	s.lockTimeout = time.Minute
	return &s
}

// Settings is the statement that sets the transaction's local settings.
func (s *Store) Settings() string { return s.settings() }

// Classify is classify, for an event that is alone at fault.
func Classify(err error) error { return classify(err, true) }

// Statement is a statement of the write path, with parameters for some events.
type Statement struct {
	Name, SQL string
	Params    [][]byte // binary
}

// WritePath lists the statements that read or write by key, as a batch of those events
// would run them.
func WritePath(events []Event) []Statement {
	keys := sortedKeys(events)
	list := deltas(keys, events)
	ids := newArray(oidUUID, len(list), 16)
	for i := range list {
		ids.uuid(list[i].keys[0].email)
	}
	return []Statement{
		{"upsertEmails, first pass", upsertEmails, upsertParams(list, DefaultSeenLimit, false)},
		{"upsertEmails, second pass", upsertEmails, upsertParams(list, DefaultSeenLimit, true)},
		{"unknownEvents", unknownEvents, emailParams(keys)},
		{"forgetSeen", forgetSeen, [][]byte{ids.bytes()}},
		{"moveSeen", moveSeen, [][]byte{ids.bytes()}},
		{"insertSeen", insertSeen, keyParams(keys)},
		{"missingEvents", missingEvents, keyParams(keys)},
	}
}
