package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// poolConfig reads DATABASE_URL. It accepts less than pgx, which reads whatever is
// not a URL as keywords: with a quote in front of a URL, it would send the password to
// whatever server its defaults name. Errors quote nothing of the value, since nobody knows
// where in a damaged URL the password is.
func poolConfig(url string) (*pgxpool.Config, error) {
	url = strings.TrimSpace(url)
	isURL := strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
	if isURL {
		if err := checkURL(url); err != nil {
			return nil, err
		}
	}
	config, err := pgxpool.ParseConfig(url)
	if err == nil {
		err = checkParts(config)
	} else {
		err = errors.New(parseProblem(err))
	}
	switch {
	case err == nil:
	case !isURL && strings.Contains(url, "://"):
		return nil, errors.New("does not begin with postgres:// or postgresql://: nothing may come before it, such as a quote, jdbc: or the name of a driver")
	case !isURL && !errors.As(err, new(parameterError)):
		return nil, fmt.Errorf("is neither a URL such as postgres://user:password@host:5432/database nor keywords such as host=… user=…: %w", err)
	default:
		return nil, err
	}
	config.ConnConfig.OnNotice = tracking.NoteWarning
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "mailtally"
	}
	return config, nil
}

const encodeThem = "special characters in the user and the password must be percent-encoded, such as @ as %40 and / as %2F"

// checkURL finds in a URL's text what parsing makes invisible.
func checkURL(url string) error {
	if strings.ContainsFunc(url, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
		return errors.New("has a blank, a line break or an invisible character in it: remove it, or percent-encode it")
	}
	if strings.ContainsRune(quotes, []rune(url)[len([]rune(url))-1]) {
		return errors.New("has a quote at its end: remove it")
	}
	_, rest, _ := strings.Cut(url, "://")
	_, path, _ := strings.Cut(rest, "/")
	path, _, _ = strings.Cut(path, "?")
	if strings.ContainsAny(path, "/@:") {
		return errors.New("has more than the database's name after the host: " + encodeThem)
	}
	return nil
}

const quotes = "\"'`“”„‘’‚«»"

// checkParts refuses what can only be a damaged value, or a placeholder.
func checkParts(config *pgxpool.Config) error {
	hosts := []string{config.ConnConfig.Host}
	for _, other := range config.ConnConfig.Fallbacks {
		hosts = append(hosts, other.Host)
	}
	for _, host := range hosts {
		isFolder := strings.HasPrefix(host, "/") && !strings.ContainsAny(host, "@=;&"+quotes)
		if !isFolder && strings.ContainsFunc(host, func(r rune) bool { return !isLetterOrDigit(r) && !strings.ContainsRune(".-_:%", r) }) {
			return errors.New("has a host that is not a host name: " + encodeThem)
		}
	}
	for part, value := range map[string]string{"user": config.ConnConfig.User, "database": config.ConnConfig.Database} {
		if strings.ContainsAny(value, "=;&?<>{}"+quotes) || strings.Contains(value, "://") || strings.ContainsFunc(value, unicode.IsControl) {
			return fmt.Errorf("has a %s that looks like several values run together, or like a placeholder", part)
		}
	}
	return checkParameters(config.ConnConfig.RuntimeParams)
}

// serverParameters are those that PostgreSQL accepts with a connection and people set.
const serverParameters = ` application_name client_encoding client_min_messages datestyle default_transaction_isolation
 default_transaction_read_only extra_float_digits idle_in_transaction_session_timeout idle_session_timeout intervalstyle
 jit lock_timeout log_min_duration_statement options plan_cache_mode role search_path statement_timeout synchronous_commit
 tcp_keepalives_count tcp_keepalives_idle tcp_keepalives_interval tcp_user_timeout timezone transaction_timeout work_mem `

// otherParameters are those of hosts, of other clients and of libpq, in lower case, that
// PostgreSQL or pgx does not accept. Only these are named in errors: what nobody knows may be
// a piece of the password.
const otherParameters = ` advisory_locks applicationname charset connection_limit conn_max_age connectiontimeout currentschema encoding
 fallback_application_name gssdelegation gssencmode gsslib hostaddr idle_timeout keepalives keepalives_count keepalives_idle
 keepalives_interval load_balance_hosts logintimeout max_lifetime max_overflow pgbouncer pool pool_mode pool_recycle pool_size
 pool_timeout prepared_statements preparethreshold reconnect replication requirepeer requiressl schema socket_timeout
 sockettimeout ssl ssl_max_protocol_version ssl_min_protocol_version sslaccept sslcompression sslcrl sslcrldir sslfactory
 sslidentity sslkeylogfile statement-cache-capacity statement_cache_size stringtype supa targetservertype timeout
 uselibpqcompat workaround `

// inOptions is the way for those that are not in the lists.
const inOptions = "(settings of the server go into options, as -c name=value)"

// parameterError says that there are parameters that PostgreSQL would refuse.
type parameterError struct{ names []string }

func (e parameterError) Error() string {
	return fmt.Sprintf("has parameters that PostgreSQL would refuse: %s: leave them out %s", strings.Join(e.names, ", "), inOptions)
}

func checkParameters(parameters map[string]string) error {
	listed := func(list, name string) bool {
		return slices.Contains(strings.Fields(list), strings.ToLower(name))
	}
	var names []string
	unknown := 0
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		switch {
		case listed(serverParameters, name):
		case listed(otherParameters, name):
			names = append(names, strings.ToLower(name))
		default:
			unknown++
		}
	}
	switch {
	case unknown > 0 && len(names) > 0:
		return parameterError{append(names, "and others, not named here: they may be a piece of the password")}
	case unknown > 0:
		return errors.New("has parameters that mailtally does not know, not named here: they may be a piece of the password " + inOptions)
	case len(names) > 0:
		return parameterError{names}
	}
	return nil
}

// parseProblem is pgx's complaint about a connection string in words of our own: pgx
// quotes values.
func parseProblem(err error) string {
	text := ""
	if parse, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
		parse.ConnString = "" // not to be found in
		text = parse.Error()
	}
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Sprintf("names a file that cannot be read: %v", file.Err)
	}
	for _, parameter := range []string{
		"sslcertmode", "sslmode", "connect_timeout", "target_session_attrs", "min_protocol_version", "max_protocol_version", "channel_binding", "require_auth", "service",
		"default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity", "pool_max_conns", "pool_min_conns", "pool_min_idle_conns", "pool_max_conn_lifetime_jitter",
		"pool_max_conn_lifetime", "pool_max_conn_idle_time", "pool_health_check_period", "pool_ping_timeout",
	} {
		if strings.Contains(text, parameter) {
			return "has a value of " + parameter + " that cannot be read"
		}
	}
	switch {
	case strings.Contains(text, "invalid port"):
		return "has a port that is not a number from 1 to 65535: " + encodeThem
	case strings.Contains(text, "could not match"):
		return "does not have as many ports as hosts"
	case strings.Contains(text, "CA "), strings.Contains(text, "TLS"):
		return "has TLS settings that cannot be used: look at sslmode, sslrootcert, sslcert and sslkey"
	case strings.Contains(text, "keyword/value"):
		return "a word is not key=value"
	}
	return "cannot be read: want postgres://user:password@host:5432/database, where " + encodeThem
}
