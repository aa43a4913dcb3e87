package main

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/internal/simulate"
	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider/resend"
)

// member is a running consumer whose metrics can still be read after it has ended.
type member struct {
	process
	reg *prometheus.Registry
}

// join starts a consumer.
func join(t *testing.T, environ map[string]string) *member {
	t.Helper()
	c, err := loadConfig(environ, needsDatabase)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{reg: newRegistry(), process: process{
		t: t, stdout: newOutput(), stderr: newOutput(), interrupt: cancel, ended: make(chan struct{}),
	}}
	go func() {
		defer close(m.ended)
		log, flush := newLogger(c, m.stderr)
		defer flush()
		if err := runMember(ctx, c, m.reg, log, flush); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { m.stop() })
	return m
}

// numbers sums a metric over all members.
func numbers(t *testing.T, members ...*member) func(name string, labels ...string) int {
	t.Helper()
	all := make(map[string]*dto.MetricFamily)
	for _, m := range members {
		families, err := m.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if all[f.GetName()] == nil {
				all[f.GetName()] = &dto.MetricFamily{}
			}
			all[f.GetName()].Metric = append(all[f.GetName()].Metric, f.GetMetric()...)
		}
	}
	return func(name string, labels ...string) int { return int(total(all, name, labels...)) }
}

// Under traffic, a member joins a running group, takes over partitions, loses its
// database for a while, and stops. No event is lost or counted twice, and at the end
// all numbers agree.
func TestGroup_TakeoverAndReconciliation(t *testing.T) {
	t.Parallel()
	environ := migrated(t)
	brokers := environ["KAFKA_BROKERS"]
	proxied, database := behindProxy(t, environ)

	public, admin := start(t, environ, "producer").addresses()
	first := join(t, proxied)
	first.line(first.stderr, `"partitions assigned".*"owned":12}`)
	const seed, webhooks = 11, 8000
	traffic := start(t, with(environ, "HTTP_ADDR", public), "simulate", "-seed", strconv.Itoa(seed), "-total", strconv.Itoa(webhooks), "-rate", "2000")

	second := join(t, proxied)
	second.line(second.stderr, `"partitions assigned".*"owned":6}`)
	database.Away(true)
	// Only once each has a batch to retry: one whose commit was cut off asks what
	// became of it, and would give up half a minute later, counting its events as
	// duplicates.
	eventually(t, func() error {
		if database.Refused() < 4 {
			return fmt.Errorf("the members hardly try to reach the database")
		}
		return nil
	})
	database.Away(false)
	eventually(t, func() error {
		if numbers(t, second)("mailtally_events_applied_total") == 0 {
			return fmt.Errorf("the second member applies nothing")
		}
		return nil
	})
	second.endsWell()
	first.line(first.stderr, `(?s)"partitions revoked".*"owned":12}`)
	if code := traffic.wait(); code != 0 {
		t.Errorf("simulate: exit code %d, %s", code, traffic.stderr)
	}
	eventually(t, func() error { return same("lag", lag(t, brokers, "mailtally"), 0) })
	first.endsWell()

	pool := connect(t, environ["DATABASE_URL"])
	want := distinct(seed, webhooks)
	got := counted(t, pool)
	for event := range want {
		if got[event] != 1 {
			t.Errorf("event %s is in the history %d times", event, got[event])
		}
	}
	n := numbers(t, first, second)
	received := metrics(t, admin)
	accepted := int(total(received, "mailtally_webhooks_total", "result", "accepted"))
	malformed := int(total(received, "mailtally_webhooks_total", "result", "malformed"))
	count := func(sql string) int { return one[int](t, pool, sql) }
	for _, err := range []error{
		same("distinct events in the history", len(got), len(want)),
		same("applied", n("mailtally_events_applied_total"), len(want)),
		same("consumed", n("mailtally_events_consumed_total"),
			n("mailtally_events_applied_total")+n("mailtally_events_duplicate_total")+n("mailtally_events_dropped_total")+
				n("mailtally_events_refetched_total")+n("mailtally_events_in_flight")),
		same("records in the topic", int(records(t, brokers, "email-events")), accepted),
		same("first opens", n("mailtally_first_opens_total"), count("SELECT count(*) FROM mailtally.email WHERE opened_at IS NOT NULL")),
		same("first clicks", n("mailtally_first_clicks_total"), count("SELECT count(*) FROM mailtally.email WHERE clicked_at IS NOT NULL")),
		same("open_count", count("SELECT sum(open_count) FROM mailtally.email"), n("mailtally_events_applied_total", "type", "opened")),
		same("click_count", count("SELECT sum(click_count) FROM mailtally.email"), n("mailtally_events_applied_total", "type", "clicked")),
		same("dead letters", int(records(t, brokers, "email-events.dead-letter")), n("mailtally_events_dropped_total")+malformed),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	// All of the above would also agree at zero.
	for _, name := range []string{"mailtally_events_duplicate_total", "mailtally_events_dropped_total", "mailtally_first_clicks_total"} {
		if n(name) == 0 {
			t.Errorf("%s is 0: nothing was tested", name)
		}
	}
	if malformed == 0 || n("mailtally_events_consumed_total") < accepted {
		t.Errorf("%d malformed, %d consumed of %d accepted", malformed, n("mailtally_events_consumed_total"), accepted)
	}
}

// distinct gives the distinct events among the simulator's first webhooks.
func distinct(seed uint64, webhooks int) map[string]bool {
	generator := simulate.NewGenerator(seed, true, time.Now)
	events := make(map[string]bool)
	for range webhooks {
		if w := generator.Next(); w.Kind.Counted() {
			events[w.EmailID+" "+w.ID] = true
		}
	}
	return events
}

// counted gives how often each event is in the history.
func counted(t *testing.T, pool *pgxpool.Pool) map[string]int {
	t.Helper()
	rows, err := pool.Query(context.Background(), "SELECT email_id::text || ' ' || event_id FROM mailtally.email_event")
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	events := make(map[string]int)
	for _, e := range list {
		events[e]++
	}
	return events
}

// published gives the countable events in a topic.
func published(t *testing.T, brokers, topic string, more ...kgo.Opt) map[string]bool {
	t.Helper()
	client, err := kgo.NewClient(append(more, kgo.SeedBrokers(brokers), kgo.ConsumeTopics(topic))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	events := make(map[string]bool)
	for left := records(t, brokers, topic, more...); left > 0; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		left -= int64(fetches.NumRecords())
		fetches.EachRecord(func(r *kgo.Record) {
			travelled := tracking.Record{Value: r.Value}
			for _, h := range r.Headers {
				travelled.SetHeader(h.Key, h.Value)
			}
			if e, err := (resend.Provider{}).Decode(&travelled, time.Now()); err == nil {
				events[e.EmailID.String()+" "+e.EventID] = true
			}
		})
	}
	return events
}

// lag is the number of records that the group has not committed.
func lag(t *testing.T, brokers, group string, more ...kgo.Opt) int64 {
	t.Helper()
	admin, ctx := ask(t, brokers, more...)
	lags, err := admin.Lag(ctx, group)
	if err == nil {
		err = lags.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, l := range lags {
		n += l.Lag.Total()
	}
	return n
}
