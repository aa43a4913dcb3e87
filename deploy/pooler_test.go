package deploy

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/mailtally/mailtally/internal/testpg"
)

// pooler is a PgBouncer in transaction mode, in front of a server.
type pooler struct {
	*process
	t    *testing.T
	args []string
	url  string // of the database that it leads to
}

// newPooler runs Debian's PgBouncer with fewer connections to the server than a consumer
// has to it.
func newPooler(t *testing.T, database string) *pooler {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	addr, dir := freeAddr(t), testpg.Dir(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	config, users := filepath.Join(dir, "pgbouncer.ini"), filepath.Join(dir, "users.txt")
	p := &pooler{t: t, args: []string{config}}
	for name, text := range map[string]string{
		users: fmt.Sprintf("%q %q\n", u.User.Username(), password),
		config: fmt.Sprintf(`
[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
pool_mode = transaction
default_pool_size = 2
`, u.Hostname(), u.Port(), port, users),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 { // PgBouncer refuses to run as root
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(nobody.Uid)
		for _, name := range []string{dir, config, users} {
			if err := os.Chown(name, uid, -1); err != nil {
				t.Fatal(err)
			}
		}
		p.args = append(p.args, "-u", nobody.Username)
	}
	u.Host = addr
	p.url = u.String()
	p.start()
	return p
}

// start starts it, again and on the same port if it was killed.
func (p *pooler) start() {
	p.t.Helper()
	p.process = start(p.t, nil, program(p.t, "pgbouncer", "pgbouncer"), p.args...)
	await(p.t, "PgBouncer starts", func() error {
		p.mustRun(p.t)
		conn, err := pgx.Connect(p.t.Context(), p.url)
		if err == nil {
			err = conn.Close(p.t.Context())
		}
		return err
	})
}

// kill ends it in the middle of whatever it does.
func (p *pooler) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// Behind a PgBouncer in transaction mode, which is killed under load and whose database
// refuses some rows in the middle of COPY, a consumer writes what another one writes that
// has a database of its own.
func TestPooler(t *testing.T) {
	t.Parallel()
	const refused = "complained"
	direct := testpg.Server(t, nil).URL("postgres")
	pooled := newPooler(t, direct)
	d := startDev(t, nil, "-rate", "0")
	environ := []string{"KAFKA_GROUP=pooled", "ADMIN_ADDR=" + freeAddr(t)}
	for _, name := range []string{"KAFKA_BROKERS", "KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"} {
		environ = append(environ, name+"="+d.environ[name])
	}
	migrate := start(t, append(environ, "DATABASE_URL="+direct), mailtally, "migrate")
	<-migrate.ended
	conn := connectTo(t, direct)
	if _, err := conn.Exec(t.Context(), "ALTER TABLE mailtally.email_event ADD CHECK (type <> '"+refused+"')"); err != nil {
		t.Fatal(err)
	}
	consumer := start(t, append(environ, "DATABASE_URL="+pooled.url), mailtally, "consumer")

	traffic := start(t, []string{"HTTP_ADDR=" + d.environ["HTTP_ADDR"], "RESEND_WEBHOOK_SECRETS=" + d.environ["RESEND_WEBHOOK_SECRETS"]},
		mailtally, "simulate", "-rate", "2000", "-total", "10000")
	history := func() (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM mailtally.email_event").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, enough := range []int{1000, 3000} {
		await(t, "the consumer to be busy", func() error {
			consumer.mustRun(t)
			if n := history(); n < enough {
				return fmt.Errorf("%d events", n)
			}
			return nil
		})
		pooled.kill()
		pooled.start()
	}
	<-traffic.ended

	reference := connectTo(t, d.environ["DATABASE_URL"])
	same := func(what, query string) {
		t.Helper()
		await(t, what+" are the same as without the pooler", func() error {
			var want, got string
			if err := reference.QueryRow(t.Context(), query, refused).Scan(&want); err != nil {
				return err
			}
			if err := conn.QueryRow(t.Context(), query, refused).Scan(&got); err != nil {
				return err
			}
			if want != got {
				return fmt.Errorf("%s, want %s", got, want)
			}
			return nil
		})
	}
	same("rows of the history", `SELECT count(*) || ' ' || md5(string_agg(e::text, ' ' ORDER BY e::text))
		FROM (SELECT email_id, event_id, type, occurred_at, link FROM mailtally.email_event WHERE type <> $1) AS e`)
	same("rows of the tally", `SELECT count(*) || ' ' || md5(string_agg(e::text, ' ' ORDER BY e::text))
		FROM (SELECT id, opened_at, open_count, clicked_at, click_count, link_clicks, sent_at, delivered_at, bounced_at, last_opened_at, last_clicked_at
		        FROM mailtally.email_history WHERE id IN (SELECT email_id FROM mailtally.email_event WHERE type <> $1)) AS e`)
	var dropped int
	if err := reference.QueryRow(t.Context(), "SELECT count(*) FROM mailtally.email_event WHERE type = $1", refused).Scan(&dropped); err != nil || dropped == 0 {
		t.Errorf("%d events were to be refused, %v: nothing was tested", dropped, err)
	}
}

func connectTo(t *testing.T, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}
