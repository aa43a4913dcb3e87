package tracking

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
)

// RefusedError says that PostgreSQL refuses an event because of its content: it will be
// refused again, however long one waits. It never stands for a database that is down, full,
// locked or without its schema: at the same moment, PostgreSQL accepted an event of the same
// type and time without content.
type RefusedError struct {
	SQLState   string // empty if a trigger kept it out in silence
	Constraint string // the violated constraint, if any
	err        error
}

func (e *RefusedError) Error() string { return fmt.Sprintf("PostgreSQL refuses the event: %v", e.err) }
func (e *RefusedError) Unwrap() error { return e.err }

// Detail names the fault without quoting data.
func (e *RefusedError) Detail() string {
	switch {
	case e.SQLState == "":
		return errNotTaken.Error()
	case e.Constraint == "":
		return "SQLSTATE " + e.SQLState
	}
	return fmt.Sprintf("SQLSTATE %s, constraint %s", e.SQLState, e.Constraint)
}

// HeldUpError says that PostgreSQL does not accept an event now, and accepted another of the same
// type and time at the same moment. Its row may be locked, or a trigger fail because of it.
type HeldUpError struct{ err error }

func (e *HeldUpError) Error() string {
	return fmt.Sprintf("PostgreSQL accepts others, but not this event: %v", e.err)
}
func (e *HeldUpError) Unwrap() error { return e.err }

// errUnexpected marks errors that should never happen.
var errUnexpected = errors.New("unexpected")

// errNotTaken says that a row of mailtally.email does not have what was written to it,
// though PostgreSQL reports no error.
var errNotTaken = errors.New("a trigger or rule on mailtally.email, which is not mailtally's, keeps the row out or changes it: remove it, or exempt mailtally's role")

func notTaken(email uuid.UUID) error { return fmt.Errorf("email %v: %w", email, errNotTaken) }

// classify turns an error into a RefusedError or a HeldUpError if the event was alone at
// fault, the former by the SQLSTATE (PostgreSQL's appendix A). Only errors that a row's
// content can cause qualify. The rest of classes 22 and 23, such as a not-null column that
// an operator has added, would refuse every row alike: that is a schema error, and can be
// fixed. A check constraint is the operator's own decision on what may be stored: mailtally
// has none. So is a trigger that keeps rows out.
func classify(err error, alone bool) error {
	if errors.As(err, new(*pgconn.ConnectError)) { // no row was sent
		return err
	}
	err = withoutData(err)
	if !alone {
		return err
	}
	if errors.Is(err, errNotTaken) {
		return &RefusedError{err: err}
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return &HeldUpError{err}
	}
	switch pg.Code {
	case "22001", // string_data_right_truncation
		"22003", // numeric_value_out_of_range
		"22007", // invalid_datetime_format
		"22008", // datetime_field_overflow
		"22021", // character_not_in_repertoire
		"22P02", // invalid_text_representation
		"22P05", // untranslatable_character
		"54000": // program_limit_exceeded, such as a value too long for an index
	case "23514": // check_violation
		if violatedCheck(err) == "" {
			return &HeldUpError{err}
		}
	default:
		return &HeldUpError{err}
	}
	return &RefusedError{SQLState: pg.Code, Constraint: pg.ConstraintName, err: err}
}

// quiet replaces the text of an error.
type quiet struct {
	error
	text string
}

func (e quiet) Error() string { return e.text }
func (e quiet) Unwrap() error { return e.error }

// withoutData returns err without the parts of PostgreSQL's answer that may quote a row:
// only the SQLSTATE and the names in it are kept, since links and addresses must not be
// logged. Classes in which PostgreSQL speaks only of itself, its tables and its locks are
// kept in full, except for what somebody's PL/pgSQL raises under their codes.
func withoutData(err error) error {
	var pg *pgconn.PgError
	itself := []string{"08", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"}
	if !errors.As(err, &pg) || slices.Contains(itself, sqlClass(pg)) && pg.Routine != "exec_stmt_raise" {
		return err
	}
	text := pg.Severity + ": SQLSTATE " + pg.Code
	for _, name := range [][2]string{{"table", pg.TableName}, {"column", pg.ColumnName}, {"constraint", pg.ConstraintName}} {
		if name[1] != "" {
			text += ", " + name[0] + " " + name[1]
		}
	}
	return quiet{err, strings.ReplaceAll(err.Error(), pg.Error(), text)}
}

// Reasons to retry a batch: a closed set, which labels a metric.
const (
	RetryConnection = "connection" // PostgreSQL is unreachable or not writable, or the connection broke
	RetryTimeout    = "timeout"    // no answer in time
	RetryConflict   = "conflict"   // a deadlock or serialization failure
	RetryResources  = "resources"  // disk full, out of memory, too many connections
	RetrySchema     = "schema"     // no schema, an old one (run mailtally migrate), or an altered one
	RetryOther      = "other"
)

// RetryReasons lists the reasons.
func RetryReasons() []string {
	return []string{RetryConnection, RetryTimeout, RetryConflict, RetryResources, RetrySchema, RetryOther}
}

// RetryReason classifies an error of [Store.Apply] that may pass, as all do but a
// [RefusedError].
func RetryReason(err error) string {
	var pg *pgconn.PgError
	answered := errors.As(err, &pg)
	var dial *pgconn.ConnectError
	switch {
	case answered:
	case errors.As(err, &dial):
		return RetryConnection
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return RetryTimeout
	case errors.Is(err, errUnexpected):
		return RetryOther
	case errors.Is(err, errNotTaken):
		return RetrySchema
	default:
		return RetryConnection
	}
	if errors.As(err, &dial) && sqlClass(pg) != "53" { // no such database, a closed one, a role that may not log in …
		return RetryConnection
	}
	switch pg.Code {
	case "57014", // query_canceled, as by statement_timeout
		"55P03": // lock_not_available, as by lock_timeout
		return RetryTimeout
	}
	switch sqlClass(pg) {
	case "08", "25", "28", "57": // connection, read-only or cut off, authorization, operator intervention
		return RetryConnection
	case "40":
		return RetryConflict
	case "53":
		return RetryResources
	case "22", "23", "42", "3F": // undefined table, column or schema, no permission, or one that refuses every row
		return RetrySchema
	}
	return RetryOther
}

func sqlClass(err *pgconn.PgError) string { return err.Code[:min(2, len(err.Code))] }
