package main

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/internal/faults"
)

// Any number of migrations may run at once, and repeatedly.
func TestMigrate_TenAtOnceAndAgain(t *testing.T) {
	t.Parallel()
	environ := system(t)
	for range 2 {
		var all []*process
		for range 10 {
			all = append(all, start(t, environ, "migrate"))
		}
		for _, p := range all {
			if code := p.wait(); code != 0 || !strings.Contains(p.stdout.String(), "topics email-events and email-events.dead-letter exist") {
				t.Errorf("exit code %d: %s%s", code, p.stdout, p.stderr)
			}
		}
	}
	pool := connect(t, environ["DATABASE_URL"])
	if n := one[int](t, pool, "SELECT count(*) FROM mailtally.email_history"); n != 0 {
		t.Errorf("%d rows in a new schema", n)
	}
	if n := records(t, environ["KAFKA_BROKERS"], "email-events"); n != 0 {
		t.Errorf("%d records in a new topic", n)
	}
}

// migrate waits for a database and a broker that come up later.
func TestMigrate_Waits(t *testing.T) {
	t.Parallel()
	environ, database := behindProxy(t, system(t))
	broker := faults.NewProxy(t, environ["KAFKA_BROKERS"])
	environ["KAFKA_BROKERS"] = broker.Addr()
	database.Away(true)
	broker.Away(true)
	p := start(t, environ, "migrate")
	p.line(p.stderr, "not ready yet.*PostgreSQL")
	database.Away(false)
	p.line(p.stdout, "schema mailtally is up to date")
	p.line(p.stderr, "Kafka seed broker not reached") // the client tries again by itself
	broker.Away(false)
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr)
	}
}

// If somebody holds the lock for migrations, migrate says who, while it waits and when it
// gives up.
func TestMigrate_LockHeld(t *testing.T) {
	t.Parallel()
	environ := system(t)
	holder, err := pgx.Connect(t.Context(), environ["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(t.Context())
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock(x'6d61696c74616c6c'::bigint)"); err != nil {
		t.Fatal(err)
	}
	says := fmt.Sprintf("process %d holds the lock .* idle since 20.* pg_terminate_backend", holder.PgConn().PID())
	impatient := start(t, with(environ, "MIGRATE_TIMEOUT", "12ms"), "migrate")
	impatient.line(impatient.stderr, says)
	if code := impatient.wait(); code != exitFailure {
		t.Errorf("exit code %d, want %d: %s", code, exitFailure, impatient.stderr)
	}
	p := start(t, with(environ, "MIGRATE_TIMEOUT", "12s"), "migrate")
	p.line(p.stderr, "not ready yet.*"+says)
	if err := holder.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr)
	}
}

// Existing topics are left as they are, and the log says how they differ, and only if
// they do.
func TestMigrate_TopicsThatDiffer(t *testing.T) {
	t.Parallel()
	environ := system(t)
	differing := func() map[string]any {
		t.Helper()
		p := start(t, environ, "migrate")
		if code := p.wait(); code != 0 {
			t.Fatalf("exit code %d: %s", code, p.stderr)
		}
		differs := make(map[string]any)
		for _, line := range p.stderr.lines() {
			if line["level"] == "WARN" {
				differs[line["topic"].(string)] = line["differs"]
			}
		}
		return differs
	}
	admin, ctx := ask(t, environ["KAFKA_BROKERS"])
	if _, err := admin.CreateTopic(ctx, 3, -1, nil, "email-events"); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(differing()), "map[email-events:[partitions is 3, not 12]]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	environ = with(environ, "KAFKA_PARTITIONS", "3")
	if got := differing(); len(got) != 0 {
		t.Errorf("topics as they should be differ: %v", got)
	}
	for _, alter := range []struct{ topic, name, value string }{
		{"email-events", "cleanup.policy", "compact"},
		{"email-events", "max.message.bytes", "20000"},
		{"email-events", "retention.ms", "3600000"},
		{"email-events.dead-letter", "cleanup.policy", "compact,delete"},
		{"email-events.dead-letter", "max.message.bytes", "4194304"}, // more is fine
		{"email-events.dead-letter", "retention.ms", "1000"},
	} {
		if _, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: alter.name, Value: &alter.value}}, alter.topic); err != nil {
			t.Fatal(err)
		}
	}
	environ = with(environ, "KAFKA_REPLICATION_FACTOR", "3")
	want := "map[email-events:[replication factor is 1, not 3 cleanup.policy is compact, not delete min.insync.replicas is 1, not 2 " +
		"max.message.bytes is 20000, less than 1048588 retention.ms is 3600000, less than 86400000] " +
		"email-events.dead-letter:[replication factor is 1, not 3 cleanup.policy is compact,delete, not delete min.insync.replicas is 1, not 2 " +
		"retention.ms is 1000, less than 2592000000]]"
	if got := fmt.Sprint(differing()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// The topics that migrate creates do not depend on what the broker does by default: a
// compacted one would lose events, one that accepts little would refuse them.
func TestMigrate_TopicsAreExplicit(t *testing.T) {
	t.Parallel()
	environ := migrated(t)
	admin, ctx := ask(t, environ["KAFKA_BROKERS"])
	described, err := admin.DescribeTopicConfigs(ctx, "email-events", "email-events.dead-letter")
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range described {
		set := make(map[string]string)
		for _, config := range topic.Configs {
			if config.Source == kmsg.ConfigSourceDynamicTopicConfig {
				set[config.Key] = config.MaybeValue()
			}
		}
		if set["cleanup.policy"] != "delete" || set["max.message.bytes"] == "" {
			t.Errorf("%s is created with %v", topic.Name, set)
		}
	}
}

// An error that waiting cannot fix is returned at once, and does not contain the
// password.
func TestMigrate_Refused(t *testing.T) {
	t.Parallel()
	environ := system(t)
	u, err := url.Parse(environ["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("mailtally", "s3cr3t")
	p := start(t, with(environ, "DATABASE_URL", u.String()), "migrate")
	if code := p.wait(); code != exitUsage || strings.Contains(p.stderr.String(), "not ready yet") ||
		!strings.Contains(p.stderr.String(), "check user and password in DATABASE_URL") {
		t.Errorf("exit code %d: %s", code, p.stderr)
	}
	p = start(t, with(environ, "KAFKA_REPLICATION_FACTOR", "7", "LOG_FORMAT", "text"), "migrate")
	if code := p.wait(); code != exitFailure || strings.Contains(p.stderr.String(), "not ready yet") ||
		!strings.Contains(p.stderr.String(), `create Kafka topic "email-events" on `+environ["KAFKA_BROKERS"]+": INVALID_REPLICATION_FACTOR") {
		t.Errorf("exit code %d: %s", code, p.stderr)
	}
	if strings.Contains(p.stderr.String(), "s3cr3t") {
		t.Errorf("the password is in %s", p.stderr)
	}
}

// migrate waits for what may pass by itself, and ends at once for what does not.
func TestMayPass(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"08006": true, "40P01": true, "53300": true, "55P03": true, "57P03": true,
		"55000": false, // object_not_in_prerequisite_state, such as a table without a replica identity
		"42501": false, "42P10": false, "28P01": false,
	} {
		if got := mayPass(fmt.Errorf("x: %w", &pgconn.PgError{Code: code})); got != want {
			t.Errorf("%s may pass: %v, want %v", code, got, want)
		}
	}
}
