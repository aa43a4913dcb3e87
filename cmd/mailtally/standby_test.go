package main

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/internal/testpg"
)

// PostgreSQL is to wait for a synchronous standby, and there is none. A member is killed
// in the wait, and somebody cancels what is left of its commit: everybody sees the events
// now, though a failover would lose them. No member commits their offsets before the
// standby is back, and then they are counted once.
func TestI6_NoOffsetBeforeTheStandbyHasIt(t *testing.T) {
	t.Parallel()
	pg := testpg.Server(t, nil)
	environ := with(system(t), "DATABASE_URL", pg.URL("postgres"))
	if p := start(t, environ, "migrate"); p.wait() != 0 {
		t.Fatalf("migrate: %s", p.stderr)
	}
	standby, pool := testpg.NewStandby(t, pg), connect(t, pg.URL("postgres"))
	admin, ctx := ask(t, environ["KAFKA_BROKERS"])
	producer, err := kgo.NewClient(kgo.SeedBrokers(environ["KAFKA_BROKERS"]))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	const events = 5
	none := func(when string) {
		t.Helper()
		offsets, err := admin.FetchOffsets(ctx, "mailtally")
		if err != nil {
			t.Fatal(err)
		}
		offsets.Each(func(o kadm.OffsetResponse) {
			if o.At > 0 {
				t.Errorf("%s: offset %d of partition %d is committed, with no standby", when, o.At, o.Partition)
			}
		})
	}

	standby.Away()
	for n := range events {
		if err := producer.ProduceSync(ctx, record(n, func(body []byte) []byte { return body })).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	killed, process := spawn(t, environ, "consumer")
	commit := standby.Waiting(testpg.Commit{})
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.wait()
	one[bool](t, pool, "SELECT pg_cancel_backend($1)", commit.PID)
	eventually(t, func() error {
		if one[int](t, pool, "SELECT count(*) FROM mailtally.email_event") == 0 {
			return fmt.Errorf("the commit still waits")
		}
		return nil
	})
	none("after the kill")

	second := join(t, environ)
	again := standby.Waiting(commit)
	one[bool](t, pool, "SELECT pg_cancel_backend($1)", again.PID)
	standby.Waiting(again) // to confirm it
	none("done again")
	standby.Back()
	eventually(t, func() error { return same("lag", lag(t, environ["KAFKA_BROKERS"], "mailtally"), 0) })
	second.endsWell()
	for _, err := range []error{
		same("emails", one[int](t, pool, "SELECT count(*) FROM mailtally.email WHERE click_count = 1"), events),
		same("events in the history", one[int](t, pool, "SELECT count(*) FROM mailtally.email_event"), events),
	} {
		if err != nil {
			t.Error(err)
		}
	}
}
