package consumer_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/consumer"
	"github.com/mailtally/mailtally/tracking"
)

// The database goes away: the member waits, stays in its group, drops and commits
// nothing, and resumes by itself.
func TestConsumer_DatabaseAway(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	pool, proxy := s.proxied()
	m := s.start(&tracking.Store{Pool: pool})
	before := s.joined(1)
	s.produce(webhook(uuid.New(), tracking.Opened, 0))
	s.committed()

	proxy.Away(true)
	email := uuid.New()
	for n := range 20 {
		s.produce(webhook(email, tracking.Opened, n))
	}
	s.until("the member to try three times", func() bool { return sum(t, "mailtally_apply_retries_total", m) >= 3 })
	if n := s.uncommitted(); n != 20 {
		t.Errorf("%d records are uncommitted, want 20", n)
	}
	if letters := s.deadLetters(); len(letters) != 0 {
		t.Errorf("%d dead letters during an outage", len(letters))
	}
	during := s.joined(1)
	if during.Members[0].MemberID != before.Members[0].MemberID || during.Epoch != before.Epoch {
		t.Error("the member lost its place in the group")
	}
	// The group can still rebalance.
	second := s.start(&tracking.Store{Pool: pool})
	s.joined(2)

	proxy.Away(false)
	s.committed()
	m.stop()
	second.stop()
	s.reconciled(m, second)
	if n := s.number("SELECT open_count FROM mailtally.email WHERE id = $1", email); n != 20 {
		t.Errorf("open_count is %d, want 20", n)
	}
}

// One writer waits for a locked row until its timeout, while another commits: the
// database is not lost. When nobody gets an answer it is, and that is logged once.
func TestConsumer_OneStuckWriterIsNoOutage(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	real := &tracking.Store{Pool: s.pool}
	var calls, tries atomic.Int32
	var lost atomic.Bool
	stuck := fmt.Errorf("apply: %w", context.DeadlineExceeded)
	others := make(chan struct{})
	m := s.start(storeFunc(func(ctx context.Context, events []tracking.Event) (tracking.Result, error) {
		if lost.Load() {
			tries.Add(1)
			return tracking.Result{}, stuck
		}
		if calls.Add(1) == 1 {
			<-others
			return tracking.Result{}, stuck
		}
		return real.Apply(ctx, events)
	}), func(o *consumer.Options) { o.Writers = 2 })
	s.joined(1)
	const enough = 5000 // for two writers
	records := make([]*kgo.Record, enough)
	for n := range records {
		records[n] = webhook(uuid.New(), tracking.Sent, n)
	}
	s.produce(records...)
	s.until("the other writer to commit", func() bool { return sum(t, "mailtally_events_applied_total", m) > 0 })
	close(others)
	s.committed()
	if n := sum(t, "mailtally_apply_retries_total", m); n != 1 {
		t.Fatalf("%d retries, want 1: the test proves nothing", n)
	}
	if strings.Contains(m.logs.String(), "database") {
		t.Errorf("one stuck writer counts as an outage: %s", m.logs)
	}
	lost.Store(true)
	s.produce(webhook(uuid.New(), tracking.Sent, enough))
	s.until("tries", func() bool { return tries.Load() >= 3 })
	lost.Store(false)
	s.committed()
	m.stop()
	s.reconciled(m)
	if a, b := strings.Count(m.logs.String(), "database lost"), strings.Count(m.logs.String(), "database back"); a != 1 || b != 1 {
		t.Errorf("%d times lost and %d times back, want once each: %s", a, b, m.logs)
	}
}

// A member that is stopped while the database is away ends in time, and what it could
// not apply is left for the next one.
func TestConsumer_StopWhileDatabaseAway(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	pool, proxy := s.proxied()
	proxy.Away(true)
	m := s.start(&tracking.Store{Pool: pool})
	s.produce(webhook(uuid.New(), tracking.Opened, 0))
	s.until("an attempt", func() bool { return sum(t, "mailtally_apply_retries_total", m) >= 1 })
	m.stop()
	s.joined(0)
	if n := s.uncommitted(); n != 1 {
		t.Errorf("%d records uncommitted, want the one", n)
	}
}

// Rows that the database refuses for good are found among the others and dead-lettered;
// the others are applied.
func TestI4_PoisonIsIsolated(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	if _, err := s.owner.Exec(s.ctx, "ALTER TABLE mailtally.email_event ADD CONSTRAINT no_poison CHECK (link NOT LIKE '%poison%')"); err != nil {
		t.Fatal(err)
	}
	var records []*kgo.Record
	var poisoned []*kgo.Record
	email := uuid.New()
	for n := range 200 {
		r := webhook(email, tracking.Clicked, n)
		if n == 17 || n == 18 || n == 199 {
			r.Value = []byte(strings.Replace(string(r.Value), "https://example.com/", "https://example.com/poison/", 1))
			poisoned = append(poisoned, r)
		}
		records = append(records, r)
	}
	s.produce(records...)
	m := s.start(&tracking.Store{Pool: s.pool})
	s.committed()
	m.stop()
	s.reconciled(m)
	if n := s.number("SELECT click_count FROM mailtally.email WHERE id = $1", email); n != 197 {
		t.Errorf("click_count is %d, want 197", n)
	}
	letters := s.deadLetters()
	if len(letters) != len(poisoned) {
		t.Fatalf("%d dead letters, want %d", len(letters), len(poisoned))
	}
	for i, letter := range letters {
		if string(letter.Value) != string(poisoned[i].Value) || header(letter, "reason") != "refused" || header(letter, "detail") != "SQLSTATE 23514, constraint no_poison" {
			t.Errorf("dead letter %d: %s %v", i, letter.Value, letter.Headers)
		}
	}
	if strings.Contains(m.logs.String(), "https://") {
		t.Errorf("a link is in the logs: %s", m.logs)
	}
}

// A refused row that comes alone, to a member that has not kept its record, is
// dead-lettered like any other.
func TestI4_LonePoisonIsIsolated(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	if _, err := s.owner.Exec(s.ctx, "ALTER TABLE mailtally.email_event ADD CONSTRAINT no_clicks CHECK (type <> 'clicked')"); err != nil {
		t.Fatal(err)
	}
	m := s.start(&tracking.Store{Pool: s.pool})
	s.joined(1)
	for n := range 2 { // the second one long after the first is done
		s.produce(webhook(uuid.New(), tracking.Clicked, 2*n))
		s.committed()
		s.produce(webhook(uuid.New(), tracking.Opened, 2*n+1))
		s.committed()
	}
	m.stop()
	s.reconciled(m)
	if letters := s.deadLetters(); len(letters) != 2 || header(letters[0], "reason") != "refused" || len(letters[0].Value) == 0 {
		t.Errorf("dead letters: %v", letters)
	}
}

// A backlog of nothing but refused rows is processed all the same, and so is one that
// the database cannot apply in time as a whole.
func TestConsumer_MakesProgressOnHardBatches(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	if _, err := s.owner.Exec(s.ctx, "ALTER TABLE mailtally.email_event ADD CONSTRAINT no_clicks CHECK (type <> 'clicked')"); err != nil {
		t.Fatal(err)
	}
	email := uuid.New()
	for n := range 100 {
		s.produce(webhook(email, tracking.Clicked, n))
	}
	for n := range 100 { // of other partitions too
		s.produce(webhook(email, tracking.Opened, 1000+n), webhook(uuid.New(), tracking.Sent, n))
	}
	real := &tracking.Store{Pool: s.pool}
	m := s.start(storeFunc(func(ctx context.Context, events []tracking.Event) (tracking.Result, error) {
		if len(events) > 20 { // a slow database
			return tracking.Result{}, fmt.Errorf("apply: %w", context.DeadlineExceeded)
		}
		return real.Apply(ctx, events)
	}))
	s.committed()
	m.stop()
	s.reconciled(m)
	if n := s.number("SELECT open_count FROM mailtally.email WHERE id = $1", email); n != 100 {
		t.Errorf("open_count is %d, want 100", n)
	}
	if n := len(s.deadLetters()); n != 100 {
		t.Errorf("%d dead letters, want 100", n)
	}
}

// Other things in the topic are dead-lettered with their reason, unchanged, and the
// partition continues.
func TestI4_NothingSilentlyDropped(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	email := uuid.New()
	good := webhook(email, tracking.Opened, 1)
	without := func(key string) *kgo.Record {
		r := webhook(email, tracking.Opened, 2)
		var kept []kgo.RecordHeader
		for _, h := range r.Headers {
			if h.Key != key {
				kept = append(kept, h)
			}
		}
		r.Headers = kept
		return r
	}
	body := func(typ, at, id string) *kgo.Record {
		return record("k", "msg_3", fmt.Sprintf(`{"type":%q,"created_at":%q,"data":{"email_id":%q}}`, typ, at, id))
	}
	want := map[string]*kgo.Record{
		"no_provider":       {Topic: topic, Value: []byte("something else's")},
		"no_event_id":       without("webhook-id"),
		"not_json":          record("k", "msg_3", "{"),
		"no_type":           record("k", "msg_3", "{}"),
		"untracked_type":    body("contact.created", "2026-03-01T12:00:00Z", email.String()),
		"no_email_id":       record("k", "msg_3", `{"type":"email.opened"}`),
		"bad_email_id":      body("email.opened", "2026-03-01T12:00:00Z", "x"),
		"bad_time":          body("email.opened", "x", email.String()),
		"time_out_of_range": body("email.opened", "9999-01-01T00:00:00Z", email.String()),
	}
	for _, r := range want {
		s.produce(r)
	}
	s.produce(good, without("received-at")) // the record's own time will do
	m := s.start(&tracking.Store{Pool: s.pool})
	s.committed()
	m.stop()
	s.reconciled(m)
	if n := s.number("SELECT open_count FROM mailtally.email WHERE id = $1", email); n != 2 {
		t.Errorf("open_count is %d, want 2", n)
	}
	letters := s.deadLetters()
	if len(letters) != len(want) {
		t.Errorf("%d dead letters, want %d", len(letters), len(want))
	}
	for _, letter := range letters {
		source := want[header(letter, "reason")]
		if source == nil {
			t.Errorf("dead letter %v", letter.Headers)
			continue
		}
		if string(letter.Key) != string(source.Key) || string(letter.Value) != string(source.Value) {
			t.Errorf("%s: key %q value %q, want those of the record", header(letter, "reason"), letter.Key, letter.Value)
		}
		for _, h := range source.Headers {
			if header(letter, h.Key) != string(h.Value) {
				t.Errorf("%s: header %s is %q, want %q", header(letter, "reason"), h.Key, header(letter, h.Key), h.Value)
			}
		}
		at := fmt.Sprintf("%s/%d/%d", source.Topic, source.Partition, source.Offset)
		if got := header(letter, "source-topic") + "/" + header(letter, "source-partition") + "/" + header(letter, "source-offset"); got != at {
			t.Errorf("%s: source is %s, want %s", header(letter, "reason"), got, at)
		}
	}
}
