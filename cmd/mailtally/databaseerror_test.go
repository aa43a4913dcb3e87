package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// A configuration that no retry mends ends migrate at once, with code 2 and what to do.
// Neither our words nor PostgreSQL's quote what DATABASE_URL says.
func TestMisconfiguredDatabase_Migrate(t *testing.T) {
	t.Parallel()
	environ := system(t)
	admin := connect(t, environ["DATABASE_URL"])
	name := strings.ReplaceAll(uuid.NewString(), "-", "")
	locked, role := "l0cked"+name, "r0le"+name
	for _, sql := range []string{
		"CREATE DATABASE " + locked + " ALLOW_CONNECTIONS false",
		"CREATE ROLE " + role + " PASSWORD 's3cr3t' NOLOGIN",
	} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ name, user, password, database, query, want string }{
		{"wrong password", "", "s3cr3t", "", "", "(SQLSTATE 28P01)"},
		{"no such role", "s3cr3t", "x", "", "", "check user and password in DATABASE_URL"},
		{"a role that may not log in", role, "s3cr3t", "", "", "may log in"},
		{"no such database", "", "", "n0ne" + name, "", "check the database's name in DATABASE_URL, or create the database"},
		{"a name with a quote", "", "", `s3cr3t"s3cr3t`, "", "DATABASE_URL: has a database that looks like"},
		{"a database that takes no connections", "", "", locked, "", "ALLOW_CONNECTIONS true"},
		{"a parameter's value", "", "", "", "statement_timeout=s3cr3t", "check the parameters in DATABASE_URL"},
	} {
		u, err := url.Parse(environ["DATABASE_URL"])
		if err != nil {
			t.Fatal(err)
		}
		password, _ := u.User.Password()
		user := u.User.Username()
		if test.user != "" {
			user = test.user
		}
		if test.password != "" {
			password = test.password
		}
		if test.database != "" {
			u.Path = "/" + test.database
		}
		u.User, u.RawQuery = url.UserPassword(user, password), u.RawQuery+"&"+test.query
		u.RawQuery = strings.Trim(u.RawQuery, "&")
		p := start(t, with(environ, "DATABASE_URL", u.String()), "migrate")
		if code := p.wait(); code != exitUsage || !strings.Contains(p.stderr.String(), test.want) || strings.Contains(p.stderr.String(), "not ready yet") ||
			strings.Count(p.stderr.String(), "SQLSTATE") > 1 {
			t.Errorf("%s: exit code %d: %s", test.name, code, p.stderr)
		}
		for _, value := range []string{"s3cr3t", "l0cked", "r0le", "n0ne"} {
			if strings.Contains(p.stderr.String(), value) {
				t.Errorf("%s: %s is quoted: %s", test.name, value, p.stderr)
			}
		}
	}
}

// A member outlives it, counts its tries as what they are, says what to do, and resumes
// where somebody has done so.
func TestMisconfiguredDatabase_Consumer(t *testing.T) {
	t.Parallel()
	environ := migrated(t)
	u, err := url.Parse(environ["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(u.Path, "/")
	u.Path = "/postgres"
	admin := connect(t, u.String())
	p := start(t, environ, "consumer")
	_, address := p.addresses()
	public, _ := start(t, environ, "producer").addresses()
	tries := 0.0
	for _, fault := range []struct{ name, begin, end, want string }{
		{"takes no connections", "ALTER DATABASE %[1]s ALLOW_CONNECTIONS false", "ALTER DATABASE %[1]s ALLOW_CONNECTIONS true", "ALLOW_CONNECTIONS true opens it"},
		{"is renamed", "ALTER DATABASE %[1]s RENAME TO %[1]s_0ther", "ALTER DATABASE %[1]s_0ther RENAME TO %[1]s", "or create the database"},
	} {
		// Until nobody has come between: a database that somebody is in is not renamed.
		eventually(t, func() error {
			_, err := admin.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database)
			if err == nil {
				_, err = admin.Exec(t.Context(), fmt.Sprintf(fault.begin, database))
			}
			return err
		})
		if _, err := admin.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE $1 || '%'", database); err != nil {
			t.Fatal(err)
		}
		email := uuid.New()
		if status := post(t, public, testSecret, email.String(), opened(email)); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		p.line(p.stderr, `"(database lost|pausing).*`+fault.want) // lost: by the connections that were cut
		eventually(t, func() error {
			families := metrics(t, address)
			if total(families, "mailtally_apply_retries_total") != total(families, "mailtally_apply_retries_total", "reason", "connection") {
				t.Fatalf("%s: retries for other reasons than connection: %v", fault.name, families["mailtally_apply_retries_total"])
			}
			if total(families, "mailtally_apply_retries_total") == tries {
				return errors.New("no try is counted")
			}
			return nil
		})
		if status, text := get(t, "http://"+address+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, fault.want) {
			t.Errorf("%s: /readyz %d: %s", fault.name, status, text)
		}
		if _, err := admin.Exec(t.Context(), fmt.Sprintf(fault.end, database)); err != nil {
			t.Fatal(err)
		}
		awaitOpen(t, connect(t, environ["DATABASE_URL"]), email)
		tries = total(metrics(t, address), "mailtally_apply_retries_total")
	}
	if n := strings.Count(p.stderr.String(), database); n != 1 { // at the start, with the settings
		t.Errorf("the database is named %d times: %s", n, p.stderr)
	}
	p.endsWell()
}
