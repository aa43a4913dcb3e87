package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// Every body that Resend has published goes through the whole pipe: HTTP, Kafka,
// consumer, PostgreSQL. A tracked one becomes the row and the history that its
// event says, any other leaves no trace but a count.
func TestPublishedBodies(t *testing.T) {
	t.Parallel()
	environ := migrated(t)
	public, admin := start(t, environ, "producer").addresses()
	_, member := start(t, environ, "consumer").addresses()

	events := make(map[string]tracking.Event)
	ignored, dropped := 0, 0
	for name, body := range publishedBodies(t) {
		if status := post(t, public, testSecret, "msg_"+name, body); status != http.StatusNoContent {
			t.Errorf("%s: answered %d", name, status)
		}
		event, err := tracking.DecodeResend("msg_"+name, time.Now(), body)
		var drop *tracking.DropError
		switch {
		case err == nil:
			events[name] = event
		case errors.As(err, &drop) && drop.Reason == tracking.Untracked:
			ignored++
		default: // some are of times that may be still to come
			dropped++
		}
	}
	if len(events) == 0 || ignored == 0 {
		t.Fatalf("%d events, %d ignored", len(events), ignored)
	}
	eventually(t, func() error {
		return same("events consumed", total(metrics(t, member), "mailtally_events_consumed_total"), float64(len(events)+dropped))
	})
	counted := metrics(t, admin)
	for _, err := range []error{
		same("accepted", total(counted, "mailtally_webhooks_total", "result", "accepted"), float64(len(events)+dropped)),
		same("ignored", total(counted, "mailtally_webhooks_total", "result", "ignored"), float64(ignored)),
		same("answered", total(counted, "mailtally_webhooks_total"), float64(len(events)+dropped+ignored)),
		same("applied", total(metrics(t, member), "mailtally_events_applied_total"), float64(len(events))),
		same("records", records(t, environ["KAFKA_BROKERS"], "email-events"), int64(len(events)+dropped)),
		same("dead letters", records(t, environ["KAFKA_BROKERS"], "email-events.dead-letter"), int64(dropped)),
	} {
		if err != nil {
			t.Error(err)
		}
	}

	pool := connect(t, environ["DATABASE_URL"])
	for name, event := range events {
		if got, want := history(t, pool, event.EmailID), describe(event); got != want {
			t.Errorf("%s: history\n got %s\nwant %s", name, got, want)
		}
		if got, want := row(t, pool, event.EmailID), onlyEvent(event); got != want {
			t.Errorf("%s: row\n got %s\nwant %s", name, got, want)
		}
	}
	if n := one[int](t, pool, "SELECT count(*) FROM mailtally.email"); n != len(events) {
		t.Errorf("%d rows of %d events, each of an email of its own", n, len(events))
	}
}

// publishedBodies gives each body an email of its own, since most of them are
// about the same one.
func publishedBodies(t *testing.T) map[string][]byte {
	t.Helper()
	const folder = "../../tracking/testdata/resend/"
	paths, err := filepath.Glob(folder + "*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no bodies in %s: %v", folder, err)
	}
	bodies := make(map[string][]byte)
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, published := range []string{"56761188-7520-42d8-8898-ff6fc54ce618", "c4bd0130-17f1-4e49-90bc-856308df9bb5"} {
			body = bytes.ReplaceAll(body, []byte(published), []byte(uuid.NewString()))
		}
		bodies[strings.TrimSuffix(filepath.Base(path), ".json")] = body
	}
	return bodies
}

// describe is the history that an event is to have.
func describe(e tracking.Event) string {
	ip := ""
	if e.IP.IsValid() {
		ip = e.IP.String()
	}
	return fmt.Sprintf("%s at %s, id %q, link %q, IP %q, agent %q, reason %q, message %q\n",
		e.Type, e.OccurredAt.Format(time.RFC3339Nano), e.EventID, e.Link, ip, e.UserAgent, e.Reason, e.Message)
}

// history is all that the history has of an email.
func history(t *testing.T, pool *pgxpool.Pool, email uuid.UUID) string {
	t.Helper()
	rows, err := pool.Query(context.Background(), `SELECT type, occurred_at, event_id, coalesce(link, ''), coalesce(host(ip), ''), coalesce(user_agent, ''),
		coalesce(reason, ''), coalesce(message, '') FROM mailtally.email_event WHERE email_id = $1`, email)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	var typ, id, link, ip, agent, reason, message string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&typ, &at, &id, &link, &ip, &agent, &reason, &message}, func() error {
		fmt.Fprintf(&b, "%s at %s, id %q, link %q, IP %q, agent %q, reason %q, message %q\n",
			typ, at.UTC().Format(time.RFC3339Nano), id, link, ip, agent, reason, message)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// row is what an application reads of an email: the times that are set, and the
// counts.
func row(t *testing.T, pool *pgxpool.Pool, email uuid.UUID) string {
	t.Helper()
	return one[string](t, pool, `SELECT coalesce((
		SELECT string_agg(key || '=' || to_char(value::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), ' ' ORDER BY key)
		FROM jsonb_each_text(to_jsonb(h)) WHERE key LIKE '%\_at' AND value IS NOT NULL), '')
		|| ' opens ' || open_count || ' clicks ' || click_count || ' link_clicks ' || link_clicks
		FROM mailtally.email_history h WHERE id = $1`, email)
}

// onlyEvent is the row of an email with no other event.
func onlyEvent(e tracking.Event) string {
	at := e.OccurredAt.Format("2006-01-02T15:04:05.000000")
	times, opens, clicks, list := e.Type.String()+"_at="+at, 0, 0, ""
	switch e.Type {
	case tracking.Opened:
		times, opens = "last_opened_at="+at+" "+times, 1
	case tracking.Clicked:
		times, clicks = times+" last_clicked_at="+at, 1
		list = fmt.Sprintf(`{"link": %q, "ipAddress": %q, "timestamp": %q, "userAgent": %q}`, e.Link, e.IP, e.OccurredAt.Format("2006-01-02T15:04:05.000Z"), e.UserAgent)
	}
	return fmt.Sprintf(`%s opens %d clicks %d link_clicks {"clicks": [%s], "totalClicks": %d}`, times, opens, clicks, list, clicks)
}
