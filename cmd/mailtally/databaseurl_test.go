package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"
)

// Whatever slipped, it is refused, and nothing of the value is quoted. Each of these has
// been seen: pgx would take most of them for keywords, or read a part of the password as
// the host.
func TestDatabaseURL_Slips(t *testing.T) {
	t.Parallel()
	const url = "postgresql://us3r:s3cr3t@h0st:5432/d4ta"
	slips := []string{
		`"` + url, `'` + url, "“" + url, `"` + url + `"`, `'` + url + `'`, url + `"`, url + `'`, url + "”", url + "?sslmode=disable\"", url + "?application_name=x'",
		"\ufeff" + url, "\u200b" + url, url + "\u200b", "jdbc:" + url, "jdbc:" + url + "?user=us3r&password=s3cr3t", "DATABASE_URL=" + url, "export DATABASE_URL=" + url, "psql " + url,
		"- " + url, "postgresql+asyncpg://us3r:s3cr3t@h0st/d4ta", "postgresql+psycopg2://us3r:s3cr3t@h0st/d4ta?sslmode=require", "Postgres://us3r:s3cr3t@h0st/d4ta", "pgsql://us3r:s3cr3t@h0st/d4ta?a=b",
		"mysql://us3r:s3cr3t@h0st/d4ta", "postgres:/us3r:s3cr3t@h0st/d4ta", "postgres:us3r:s3cr3t@h0st/d4ta", "us3r:s3cr3t@h0st/d4ta", "h0st:5432/d4ta", url + " " + url, url + "," + url, url + "\n" + url,
		"postgres://us3r:s3cr 3t@h0st/d4ta", "postgres://us3r:p@s3cr3t@h0st/d4ta", "postgres://us3r:s3cr3t@@h0st/d4ta", "postgres://us3r:/s3cr3t@h0st/d4ta", "postgres://us3r:12/s3cr3t@h0st/d4ta", "postgres://us3r/s3cr3t@h0st/d4ta",
		"postgres://us3r@h0st:s3cr3t/d4ta", "postgres://us3r:s3cr3t/h0st/d4ta", "postgres://us3r:s3cr3t%zz@h0st/d4ta", "postgres://us3r:s3cr3t@h0st:99999/d4ta", "postgres://us3r:s3cr3t@h0st:0/d4ta", "postgres://us3r:s3cr3t@h 0st/d4ta",
		"postgres://us3r:s3cr3t@<h0st>/d4ta", "postgres://us3r:s3cr3t@${h0st}/d4ta", "postgres://<us3r>:s3cr3t@h0st/d4ta", "postgres://us3r:s3cr3t@h0st/{d4ta}", "postgres://us3r:s3cr3t@h0st/d4ta?s3cr3t", "postgres://us3r:s3cr3t@h0st/d4ta?s3cr3t=1",
		url + "?sslmode=s3cr3t", url + "?sslrootcert=/s3cr3t", url + "?target_session_attrs=s3cr3t", url + "?min_protocol_version=s3cr3t", url + "?channel_binding=s3cr3t", url + "?require_auth=s3cr3t", url + "?connect_timeout=s3cr3t",
		url + "?pool_max_conns=s3cr3t", url + "?pool_max_conn_lifetime=s3cr3t", url + "?service=s3cr3t", url + "?sslcertmode=s3cr3t", url + "?default_query_exec_mode=s3cr3t", url + "?statement_cache_capacity=s3cr3t", url + "?port=s3cr3t",
		"Host=h0st;Username=us3r;Password=s3cr3t;Database=d4ta", "host=h0st;user=us3r;password=s3cr3t", "host=h0st,user=us3r,password=s3cr3t", "host=h0st&user=us3r&password=s3cr3t", "host=h0st dbname=d4ta;password=s3cr3t",
		"host=h0st user=us3r,password=s3cr3t", "host=h0st passwort=s3cr3t", "host=h0st pass word=s3cr3t", "host=h0st password='s3cr3t", `"host=h0st password=s3cr3t"`, "host: h0st password: s3cr3t", "host=h0st password=my s3cr3t",
		"dbname=" + url, "host=" + url, "password=s3cr3t host=" + url, "{\"url\": \"" + url + "\"}", "s3cr3t", "s3cr3t=s3cr3t",
	}
	for _, slip := range slips {
		_, err := loadConfig(map[string]string{"DATABASE_URL": slip}, needsDatabase)
		if err == nil {
			t.Errorf("%q is accepted", slip)
			continue
		}
		if !strings.Contains(err.Error(), "DATABASE_URL: ") {
			t.Errorf("%q: the variable is not named: %v", slip, err)
		}
		for _, part := range []string{"us3r", "s3cr3t", "h0st", "d4ta"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%q: quoted in %v", slip, err)
			}
		}
	}
}

// What is right stays accepted. Blanks around it are nobody's intention, and harmless.
func TestDatabaseURL_Accepted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, at string }{
		{"postgres://user:secret@host/db", "host:5432/db"},
		{" \tpostgresql://user:secret@host/db\r\n", "host:5432/db"},
		{"postgres://user:p'a\"$s#s%40%2F;=&?{}@host/db", "host:5432/db"},
		{"postgres://a%40b.iam:secret@host-1.example.com:6432/my-db_1", "host-1.example.com:6432/my-db_1"},
		{"postgres://postgres.abcdef:secret@aws-0-eu.pooler.example.com:6543/postgres?sslmode=require", "aws-0-eu.pooler.example.com:6543/postgres"},
		{"postgres://user:secret@[::1]:5433/db?target_session_attrs=read-write", "[::1]:5433/db"},
		{"postgres://user:secret@a:1,b:2/db?connect_timeout=3&application_name=mail tally", ""}, // a blank is to be encoded
		{"postgres://user:secret@a:1,b:2/db?connect_timeout=3&application_name=mail%20tally", "a:1,b:2/db"},
		{"postgres://user:secret@host/db?options=endpoint%3Dep-1&channel_binding=require&sslmode=require", "host:5432/db"},
		{"postgres://user:secret@host/db?search_path=x&statement_timeout=5s&TimeZone=UTC&pool_max_conns=3&default_query_exec_mode=exec", "host:5432/db"},
		{"postgres://user:secret@host/db?options=-c%20random_page_cost%3D1.1", "host:5432/db"},
		{"postgres:///db?host=/run/postgresql", "/run/postgresql:5432/db"},
		{"host=host user=user password='it\\'s a secret' dbname='db'", "host:5432/db"},
		{"host = host user = user password = \"se=cr;et\"\tport = 5433 dbname=db sslmode=disable", "host:5433/db"},
	} {
		c, err := loadConfig(map[string]string{"DATABASE_URL": test.url}, needsDatabase)
		switch {
		case test.at == "" && err == nil:
			t.Errorf("%q is accepted", test.url)
		case test.at != "" && err != nil:
			t.Errorf("%q: %v", test.url, err)
		case test.at != "":
			if got := databaseName(c.DatabaseURL); got != test.at {
				t.Errorf("%q is %s, want %s", test.url, got, test.at)
			}
		}
	}
}

// What hosts and other clients add is named, since it is no secret. What nobody knows may
// be a piece of the password.
func TestDatabaseURL_Parameters(t *testing.T) {
	t.Parallel()
	const url = "postgres://user:s3cr3t@host/db?sslmode=require"
	for _, test := range []struct{ url, want string }{
		{url + "&pgbouncer=true&schema=public", "DATABASE_URL: has parameters that PostgreSQL would refuse: pgbouncer, schema"},
		{url + "&connection_limit=1&pool_timeout=0&prepareThreshold=0", "connection_limit, pool_timeout, preparethreshold"},
		{url + "&supa=base-pooler.x&keepalives=1&gssencmode=disable&hostaddr=10.0.0.1", "gssencmode, hostaddr, keepalives, supa"},
		{url + "&ssl=false", "PostgreSQL would refuse: ssl"},
		{"host=host user=user password=s3cr3t pgbouncer=true", "PostgreSQL would refuse: pgbouncer"},
		{url + "&pgbouncer=true&s3cr3t=1", "pgbouncer, and others"},
		{url + "&random_page_cost=1.1", "that mailtally does not know, not named here: they may be a piece of the password (settings of the server go into options"},
	} {
		p := start(t, map[string]string{"DATABASE_URL": test.url}, "consumer")
		if code := p.wait(); code != exitUsage || !strings.Contains(p.stderr.String(), test.want) || strings.Contains(p.stderr.String(), "s3cr3t") {
			t.Errorf("%s: exit code %d, %s", test.url, code, p.stderr)
		}
	}
}

// A slip sends nothing to the server that stands where none is named.
func TestDatabaseURL_NothingIsSent(t *testing.T) {
	t.Parallel()
	elsewhere, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	contacted := make(chan error, 100)
	go func() {
		for {
			conn, err := elsewhere.Accept()
			if err != nil {
				return
			}
			contacted <- fmt.Errorf("%v connected", conn.RemoteAddr())
			conn.Close()
		}
	}()
	host, port, _ := net.SplitHostPort(elsewhere.Addr().String())
	for _, slip := range []string{`"`, "\ufeff", "jdbc:"} {
		for _, role := range []string{"consumer", "migrate"} {
			p, _ := spawn(t, map[string]string{
				"DATABASE_URL": slip + "postgresql://user:s3cr3t@db.example/db?sslmode=disable", "PGHOST": host, "PGPORT": port,
				"KAFKA_BROKERS": "127.0.0.1:1", "ADMIN_ADDR": "127.0.0.1:0",
			}, role)
			if code := p.wait(); code != exitUsage || strings.Contains(p.stderr.String(), "s3cr3t") {
				t.Errorf("%s with %q: exit code %d: %s", role, slip, code, p.stderr)
			}
		}
	}
	if len(contacted) > 0 {
		t.Error(<-contacted)
	}
}

// marked is a secret that a test looks for.
const marked = "s3cr3t"

// However a right value is damaged, the password is in no error: not in that of the
// configuration, nor in that of a connection with what is accepted, nor in what is logged
// of it.
func TestDatabaseURL_HidesThePasswordProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.SampledFrom([]string{
			"postgres://user:" + marked + "@host:5432/db?sslmode=disable", "postgresql://user:" + marked + "@host/db", "postgres://host/db?user=u&password=" + marked,
			"postgres://user:" + marked + "@a:1,b:2/db", "postgres://user:1" + marked + "2@/db?host=h", "host=host user=user password=" + marked + " dbname=db", "host=host port=1 password='" + marked + "' user=user",
		}).Draw(t, "right")
		for range rapid.IntRange(0, 3).Draw(t, "slips") {
			before, after, _ := strings.Cut(value, marked)
			piece := &before
			if rapid.Bool().Draw(t, "after") {
				piece = &after
			}
			from := rapid.IntRange(0, len(*piece)).Draw(t, "from")
			to := min(len(*piece), from+rapid.IntRange(0, 3).Draw(t, "removed"))
			*piece = (*piece)[:from] + rapid.SampledFrom(append(strings.Split(`",',@,/,:,?,#,=,&,%,;,[,],\,//,jdbc:,postgres://,password=,%40,1,x`, ","), "", ",", " ", "\n", "\x00", "\ufeff")).Draw(t, "put") + (*piece)[to:]
			value = before + marked + after
		}
		c, err := loadConfig(map[string]string{"DATABASE_URL": value}, 0)
		if err != nil {
			if strings.Contains(err.Error(), marked) {
				t.Fatalf("%q: %v", value, err)
			}
			return
		}
		if name := databaseName(c.DatabaseURL); strings.Contains(name, marked) {
			t.Fatalf("%q is logged as %s", value, name)
		}
		config, err := poolConfig(c.DatabaseURL)
		if err != nil {
			t.Fatal(err)
		}
		config.ConnConfig.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
		config.ConnConfig.DialFunc = func(_ context.Context, _, addr string) (net.Conn, error) {
			return nil, errors.New("nobody at " + strconv.Quote(addr))
		}
		if _, err := pgx.ConnectConfig(t.Context(), config.ConnConfig); err == nil || strings.Contains(safeText(err), marked) {
			t.Fatalf("%q: %v", value, err)
		}
	})
}
