package tracking

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// RefusedError says that PostgreSQL refuses one of a batch's rows for what it
// holds: the same rows will be refused again, however long one waits. It never
// stands for a database that is away, full, locked or without its schema.
type RefusedError struct {
	SQLState   string
	Constraint string // the one violated, if it was one
	err        error
}

func (e *RefusedError) Error() string { return fmt.Sprintf("PostgreSQL refuses a row: %v", e.err) }
func (e *RefusedError) Unwrap() error { return e.err }

// Detail names the fault without quoting data.
func (e *RefusedError) Detail() string {
	if e.Constraint == "" {
		return "SQLSTATE " + e.SQLState
	}
	return fmt.Sprintf("SQLSTATE %s, constraint %s", e.SQLState, e.Constraint)
}

// classify marks an error as a RefusedError by the class of its SQLSTATE
// (PostgreSQL's appendix A): 22 data exception, 23 integrity constraint
// violation, 54 program limit exceeded.
func classify(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	switch sqlClass(pg) {
	case "22", "54":
	case "23":
		// A missing partition comes as a check violation too, without a constraint's
		// name. It is no fault of the row.
		if pg.ConstraintName == "" && pg.Code == "23514" {
			return err
		}
	default:
		return err
	}
	return &RefusedError{SQLState: pg.Code, Constraint: pg.ConstraintName, err: err}
}

// Reasons to apply a batch again: a closed set, which labels a metric.
const (
	RetryConnection = "connection" // PostgreSQL is not reached, not writable, or went away in the middle
	RetryTimeout    = "timeout"    // no answer in time
	RetryConflict   = "conflict"   // a deadlock or serialization failure
	RetryResources  = "resources"  // disk full, out of memory, too many connections
	RetrySchema     = "schema"     // no schema, or an older one: run mailtally migrate
	RetryOther      = "other"
)

// RetryReasons lists the reasons.
func RetryReasons() []string {
	return []string{RetryConnection, RetryTimeout, RetryConflict, RetryResources, RetrySchema, RetryOther}
}

// RetryReason says why an error of [Store.Apply] that is no [RefusedError] may
// pass.
func RetryReason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return RetryTimeout
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return RetryConnection
	}
	if pg.Code == "57014" { // query_canceled, as by statement_timeout
		return RetryTimeout
	}
	switch sqlClass(pg) {
	case "08", "25", "28", "57": // connection, read-only or cut off, authorization, operator intervention
		return RetryConnection
	case "40":
		return RetryConflict
	case "53":
		return RetryResources
	case "42", "3F": // undefined table, column, schema, or no right to it
		return RetrySchema
	}
	return RetryOther
}

func sqlClass(err *pgconn.PgError) string { return err.Code[:min(2, len(err.Code))] }
