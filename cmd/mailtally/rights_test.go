package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mailtally/mailtally/internal/testpg"
)

// Everything works with the least rights: migrate as the owner of a schema in somebody
// else's database, a producer without a database, a consumer and a reader with what
// deploy/grants.sql grants. Where a grant is missing, a consumer counts all the same, and
// its metric says that the history's partitions are not made.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	environ := system(t)
	database := environ["DATABASE_URL"]
	admin := connect(t, database)
	exec := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	role := "owner_" + strings.ToLower(rand.Text()) // of the whole server: it is left there
	exec("CREATE ROLE " + role + " LOGIN PASSWORD 'x'")
	exec("CREATE SCHEMA mailtally AUTHORIZATION " + role)
	owner, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	owner.User = url.UserPassword(role, "x")
	for range 2 {
		if p := start(t, with(environ, "DATABASE_URL", owner.String()), "migrate"); p.wait() != 0 || strings.Contains(p.stderr.String(), "WARN") {
			t.Fatalf("migrate: %s", p.stderr)
		}
	}
	if err := testpg.Grant(t.Context(), database); err != nil {
		t.Fatal(err)
	}
	next := time.Now().UTC().AddDate(0, 0, -time.Now().UTC().Day()+1).AddDate(0, 1, 0).Format("2006_01")
	exec("DROP TABLE mailtally.email_event_" + next)
	exec("REVOKE EXECUTE ON FUNCTION mailtally.make_partition FROM mailtally_consumer")

	public, _ := start(t, with(environ, "DATABASE_URL", ""), "producer").addresses()
	email := uuid.NewString()
	webhook := func(id string) {
		t.Helper()
		body := fmt.Appendf(nil, `{"type":"email.opened","created_at":%q,"data":{"email_id":%q}}`, time.Now().UTC().Format(time.RFC3339), email)
		if status := post(t, public, testSecret, id, body); status != http.StatusOK {
			t.Fatalf("the webhook is answered %d", status)
		}
	}
	environ = with(environ, "DATABASE_URL", testpg.As(testpg.Consumer, database))
	reader := connect(t, testpg.As(testpg.Reader, database))
	for i, failing := range []float64{1, 0} {
		consumer := start(t, environ, "consumer")
		_, addr := consumer.addresses()
		webhook(fmt.Sprint("msg_", i))
		eventually(t, func() error {
			families := metrics(t, addr)
			return errors.Join(
				same("failing", total(families, "mailtally_partitions_failing"), failing),
				same("opens", one[int](t, reader, "SELECT coalesce(sum(open_count), 0) FROM mailtally.email_history WHERE id = mailtally.email_id('resend', $1)", email), i+1))
		})
		if failing == 1 {
			consumer.line(consumer.stderr, "partitions of the history not made.*permission denied for function make_partition")
		} else {
			consumer.line(consumer.stderr, "partitions of the history made.*email_event_"+next)
		}
		consumer.endsWell()
		exec("GRANT EXECUTE ON FUNCTION mailtally.make_partition TO mailtally_consumer")
	}
	var pg *pgconn.PgError
	if _, err := reader.Exec(t.Context(), "SELECT FROM mailtally.email"); !errors.As(err, &pg) || pg.Code != "42501" {
		t.Errorf("a reader of the numbers reads the tables too: %v", err)
	}
}
