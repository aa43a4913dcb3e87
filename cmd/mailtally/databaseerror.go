package main

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// safeText is err's text for a log line, /readyz or the terminal. Where a connection to
// PostgreSQL failed, it leaves out what pgx and the server quote of DATABASE_URL, since a
// slip may have put the password into any part of it, and adds what to do.
func safeText(err error) string {
	text := err.Error()
	failed, ok := errors.AsType[*pgconn.ConnectError](err)
	if !ok {
		return text
	}
	user, password := failed.Config.User, failed.Config.Password
	text = strings.ReplaceAll(text, fmt.Sprintf("`user=%s database=%s`", user, failed.Config.Database), "PostgreSQL")
	for answer := range answers(failed) {
		said := answer.Error()
		if from, to := strings.IndexByte(said, '"'), strings.LastIndexByte(said, '"'); from < to {
			said = said[:from] + "…" + said[to+1:] // PostgreSQL puts values between quotes
		}
		for _, value := range []string{user, password} { // a pooler does not
			if value != "" {
				said = strings.ReplaceAll(said, value, "…")
			}
		}
		if remedy := remedies(answer.Code); remedy != "" {
			said += ": " + remedy
		}
		text = strings.ReplaceAll(text, answer.Error(), said)
	}
	return text
}

// safeErrors is a ReplaceAttr of [slog.HandlerOptions] that logs errors by their safeText.
func safeErrors(_ []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok {
		a.Value = slog.StringValue(safeText(err))
	}
	return a
}

// answers goes through the servers' own words in err: there is one for each host that
// answered.
func answers(err error) iter.Seq[*pgconn.PgError] {
	return func(yield func(*pgconn.PgError) bool) { eachAnswer(err, yield) }
}

func eachAnswer(err error, yield func(*pgconn.PgError) bool) bool {
	switch e := err.(type) {
	case *pgconn.PgError:
		return yield(e)
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if !eachAnswer(err, yield) {
				return false
			}
		}
	case interface{ Unwrap() error }:
		return eachAnswer(e.Unwrap(), yield)
	}
	return true
}

// remedies says what to do where PostgreSQL accepts no connection with this SQLSTATE, if
// that is for somebody to do: waiting alone does not help.
func remedies(code string) string {
	switch code {
	case "28P01": // invalid_password
		return "check user and password in DATABASE_URL"
	case "28000": // invalid_authorization_specification
		return "check that the user in DATABASE_URL exists and may log in, and that pg_hba.conf lets it in from here"
	case "3D000": // invalid_catalog_name
		return "check the database's name in DATABASE_URL, or create the database"
	case "42501": // insufficient_privilege
		return "GRANT CONNECT ON DATABASE to the user in DATABASE_URL"
	case "55000": // object_not_in_prerequisite_state
		return "somebody has closed the database: ALTER DATABASE … ALLOW_CONNECTIONS true opens it"
	case "22023", "42704": // invalid_parameter_value, undefined_object
		return "check the parameters in DATABASE_URL"
	}
	return ""
}

// misconfigured reports whether PostgreSQL accepted no connection because of a configuration:
// DATABASE_URL's or its own.
func misconfigured(err error) bool {
	if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		for answer := range answers(failed) {
			if remedies(answer.Code) != "" {
				return true
			}
		}
	}
	return false
}
