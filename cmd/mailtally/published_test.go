package main

import (
	"bytes"
	"context"
	"encoding/base64"
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
	"github.com/mailtally/mailtally/tracking/provider/all"
	"github.com/mailtally/mailtally/tracking/provider/postmark"
	"github.com/mailtally/mailtally/tracking/provider/resend"
)

// Every body that the providers and their users have published goes through the whole
// pipe: HTTP, Kafka, consumer, PostgreSQL. A tracked one becomes the row and the
// history that its event describes; any other leaves only a count.
func TestPublishedBodies(t *testing.T) {
	t.Parallel()
	environ := migrated(t)
	environ["POSTMARK_WEBHOOK_CREDENTIALS"] = "postmark:" + testSecret
	public, admin := start(t, environ, "producer").addresses()
	_, member := start(t, environ, "consumer").addresses()

	events := make(map[string]tracking.Event)
	ignored, dropped := 0, 0
	for _, p := range all.Providers() {
		tracked := 0
		for name, body := range publishedBodies(t, p.Name()) {
			travelled := tracking.Record{Value: body}
			header := http.Header{}
			switch p.Name() {
			case resend.Name:
				travelled.EventID = "msg_" + name
				header = signed(t, testSecret, travelled.EventID, body)
			case postmark.Name:
				header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(environ["POSTMARK_WEBHOOK_CREDENTIALS"])))
			}
			status, answer := request(t, http.MethodPost, "http://"+public+"/webhooks/"+p.Name(), header, body)
			if status != http.StatusOK || answer != "" {
				t.Errorf("%s: answered %d %q", name, status, answer)
			}
			event, err := p.Decode(&travelled, time.Now())
			var drop *tracking.DropError
			switch {
			case err == nil:
				events[p.Name()+"/"+name] = event
				tracked++
			case errors.As(err, &drop) && drop.Reason == tracking.Untracked:
				ignored++
			default: // some have times that may still lie in the future
				dropped++
			}
		}
		if tracked == 0 {
			t.Errorf("no events of %s", p.Name())
		}
	}
	eventually(t, func() error {
		return same("events dropped", total(metrics(t, member), "mailtally_events_dropped_total"), float64(dropped))
	})
	eventually(t, func() error {
		return same("events applied", total(metrics(t, member), "mailtally_events_applied_total"), float64(len(events)))
	})
	counted := metrics(t, admin)
	for _, err := range []error{
		same("accepted", total(counted, "mailtally_webhooks_total", "result", "accepted"), float64(len(events)+dropped)),
		same("ignored", total(counted, "mailtally_webhooks_total", "result", "ignored"), float64(ignored)),
		same("answered", total(counted, "mailtally_webhooks_total"), float64(len(events)+dropped+ignored)),
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
	// An application finds its email by the provider's id, whether that is a UUID or not.
	if n := one[int](t, pool, "SELECT count(*) FROM mailtally.email WHERE id = mailtally.email_id('postmark', provider_email_id)"); n == 0 {
		t.Error("no row of an email whose id is not a UUID")
	}
	if n := one[int](t, pool, "SELECT count(*) FROM mailtally.email WHERE id <> mailtally.email_id('postmark', coalesce(provider_email_id, id::text))"); n != 0 {
		t.Errorf("%d rows have an id other than mailtally.email_id gives", n)
	}
}

// publishedBodies gives each of a provider's bodies an email of its own, since most of
// them are about the same one.
func publishedBodies(t *testing.T, provider string) map[string][]byte {
	t.Helper()
	folder := "../../tracking/provider/" + provider + "/testdata/"
	paths, err := filepath.Glob(folder + "*-[0-9]*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no bodies in %s: %v", folder, err)
	}
	bodies := make(map[string][]byte)
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, published := range []string{"56761188-7520-42d8-8898-ff6fc54ce618", "c4bd0130-17f1-4e49-90bc-856308df9bb5", "883953f4-6105-42a2-a16a-77a8eac79483"} {
			body = bytes.ReplaceAll(body, []byte(published), []byte(uuid.NewString()))
		}
		body = bytes.ReplaceAll(body, []byte("20130503192659.13651.20287@"), []byte(uuid.NewString()+"@"))
		bodies[strings.TrimSuffix(filepath.Base(path), ".json")] = body
	}
	return bodies
}

// describe is the history row that an event should have.
func describe(e tracking.Event) string {
	ip := ""
	if e.IP.IsValid() {
		ip = e.IP.String()
	}
	return fmt.Sprintf("%s at %s, id %q, link %q, IP %q, agent %q, reason %q, message %q\n",
		e.Type, e.OccurredAt.Format(time.RFC3339Nano), e.EventID, e.Link, ip, e.UserAgent, e.Reason, e.Message)
}

// history is everything that the history has of an email.
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

// row is what an application reads of an email: the times that are set, and the counts.
func row(t *testing.T, pool *pgxpool.Pool, email uuid.UUID) string {
	t.Helper()
	return one[string](t, pool, `SELECT coalesce((
		SELECT string_agg(key || '=' || to_char(value::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), ' ' ORDER BY key)
		FROM jsonb_each_text(to_jsonb(h)) WHERE key LIKE '%\_at' AND value IS NOT NULL), '')
		|| ' opens ' || open_count || ' clicks ' || click_count || ' link_clicks ' || link_clicks
		FROM mailtally.email_history h WHERE id = $1`, email)
}

// onlyEvent is the row of an email whose only event is e.
func onlyEvent(e tracking.Event) string {
	at := e.OccurredAt.Format("2006-01-02T15:04:05.000000")
	times, opens, clicks, list := e.Type.String()+"_at="+at, 0, 0, ""
	switch e.Type {
	case tracking.Opened:
		times, opens = "last_opened_at="+at+" "+times, 1
	case tracking.Clicked:
		times, clicks = times+" last_clicked_at="+at, 1
		list = fmt.Sprintf(`{"link": %q, "ipAddress": %q, "timestamp": %q, "userAgent": %q}`, e.Link, e.IP, strings.TrimSuffix(e.OccurredAt.Format("2006-01-02T15:04:05.000000"), "000")+"Z", e.UserAgent)
	}
	return fmt.Sprintf(`%s opens %d clicks %d link_clicks {"clicks": [%s], "totalClicks": %d}`, times, opens, clicks, list, clicks)
}
