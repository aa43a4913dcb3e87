package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/consumer"
	"github.com/mailtally/mailtally/tracking"
)

// counted gives a metric's series that are not 0, by the values of its labels.
func counted(t *testing.T, m *member, name string) map[string]int {
	t.Helper()
	by := make(map[string]int)
	for _, series := range gather(t, m, name).GetMetric() {
		var values []string
		for _, l := range series.GetLabel() { // sorted by name
			values = append(values, l.GetValue())
		}
		if n := series.GetCounter().GetValue(); n > 0 {
			by[strings.Join(values, " ")] = int(n)
		}
	}
	return by
}

func histogram(t *testing.T, m *member, name string) *dto.Histogram {
	t.Helper()
	return gather(t, m, name).GetMetric()[0].GetHistogram()
}

// A member that has reached neither Kafka nor PostgreSQL has all its series, at 0.
func TestMetrics_ExistFromTheStart(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	c, err := consumer.New(consumer.Options{
		Kafka: []kgo.Opt{kgo.SeedBrokers("127.0.0.1:1")}, Topic: topic, DeadLetterTopic: deadLetter, Group: group,
		Store: &tracking.Store{}, Registerer: reg, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	types := len(tracking.Types()) + 1 // and unknown
	want := map[string]int{
		"mailtally_events_consumed_total":  types,
		"mailtally_events_applied_total":   types,
		"mailtally_events_duplicate_total": types,
		"mailtally_events_dropped_total":   types * len(tracking.Reasons()),
		"mailtally_events_refetched_total": 1,
		"mailtally_events_in_flight":       1,
		"mailtally_first_opens_total":      1,
		"mailtally_first_clicks_total":     1,
		"mailtally_records_lost_total":     1,
		"mailtally_dropping_stopped":       1,
		"mailtally_apply_duration_seconds": 1,
		"mailtally_apply_batch_events":     1,
		"mailtally_apply_retries_total":    len(tracking.RetryReasons()) + 1, // plus dead_letter
		"mailtally_event_delay_seconds":    1,
		"mailtally_consumer_lag":           0, // it owns nothing
		"mailtally_consumer_lag_seconds":   0,
		"mailtally_partitions_owned":       1,
	}
	for _, family := range families {
		if got := len(family.GetMetric()); got != want[family.GetName()] {
			t.Errorf("%s has %d series, want %d", family.GetName(), got, want[family.GetName()])
		}
		delete(want, family.GetName())
		for _, series := range family.GetMetric() {
			if n := series.GetCounter().GetValue() + series.GetGauge().GetValue() + float64(series.GetHistogram().GetSampleCount()); n != 0 {
				t.Errorf("%s begins with %v", family.GetName(), n)
			}
			if family.GetType() == dto.MetricType_COUNTER && series.GetCounter().GetCreatedTimestamp() == nil {
				t.Errorf("%s has no creation time", family.GetName())
			}
		}
	}
	for name, n := range want {
		if n > 0 {
			t.Errorf("%s is missing", name)
		}
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// In every single scrape consumed = applied + duplicate + dropped + refetched + in
// flight, whatever happens meanwhile: small batches by several writers, repeats, dead
// letters, failures.
func TestMetrics_EveryScrapeAddsUp(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var records []*kgo.Record
	for n := range 3_000 {
		r := webhook(uuid.New(), tracking.Types()[n%10], n)
		switch n % 50 {
		case 7:
			r.Value = []byte("no JSON")
		case 8:
			records = append(records, r) // twice
		}
		records = append(records, r)
	}
	for _, r := range records {
		again := *r
		s.client.Produce(s.ctx, &again, nil)
	}
	if err := s.client.Flush(s.ctx); err != nil {
		t.Fatal(err)
	}
	real := &tracking.Store{Pool: s.pool}
	var calls atomic.Int32
	m := s.start(storeFunc(func(ctx context.Context, events []tracking.Event) (tracking.Result, error) {
		if n := calls.Add(1); n == 10 || n == 20 {
			return tracking.Result{}, errors.New("a transient fault")
		}
		return real.Apply(ctx, events)
	}), func(o *consumer.Options) { o.MaxBatch = 20 })
	moving, inFlight, last := 0, 0, -1
	for last < len(records) {
		families, err := m.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		n := make(map[string]int)
		for _, family := range families {
			for _, series := range family.GetMetric() {
				n[strings.TrimSuffix(strings.TrimPrefix(family.GetName(), "mailtally_"), "_total")] += int(series.GetCounter().GetValue() + series.GetGauge().GetValue())
			}
		}
		done := n["events_applied"] + n["events_duplicate"] + n["events_dropped"]
		if n["events_consumed"] != done+n["events_refetched"]+n["events_in_flight"] {
			t.Fatalf("a scrape does not add up: %v", n)
		}
		if n["events_in_flight"] > 0 {
			inFlight++
		}
		if done > last {
			moving++
		}
		last = done
		if s.ctx.Err() != nil {
			t.Fatalf("%d of %d consumed: %s", last, len(records), m.logs)
		}
	}
	s.committed()
	m.stop()
	s.reconciled(m)
	if moving < 50 || inFlight == 0 || sum(t, "mailtally_events_refetched_total", m) == 0 {
		t.Errorf("%d scrapes while the numbers moved, %d with events in flight, %d refetched: the test proves nothing",
			moving, inFlight, sum(t, "mailtally_events_refetched_total", m))
	}
}

// Each event is counted under its own type and, if it is dropped, its own reason.
func TestMetrics_ByTypeAndReason(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	if _, err := s.owner.Exec(s.ctx, "ALTER TABLE mailtally.email_event ADD CONSTRAINT no_poison CHECK (link NOT LIKE '%poison%')"); err != nil {
		t.Fatal(err)
	}
	email := uuid.New()
	var records, repeats []*kgo.Record
	applied, duplicate := make(map[string]int), make(map[string]int)
	for i, typ := range tracking.Types() {
		for n := range i + 1 {
			r := webhook(email, typ, 100*i+n)
			records = append(records, r)
			if n%2 == 0 {
				again := *r
				repeats = append(repeats, &again)
				duplicate[typ.String()]++
			}
		}
		applied[typ.String()] = i + 1
	}
	body := func(typ, at, id string) *kgo.Record {
		return record("k", "msg_3", fmt.Sprintf(`{"type":%q,"created_at":%q,"data":{"email_id":%q}}`, typ, at, id))
	}
	poison := webhook(email, tracking.Clicked, 5_000)
	poison.Value = []byte(strings.Replace(string(poison.Value), "https://example.com/", "https://example.com/poison/", 1))
	noID := webhook(email, tracking.Opened, 5_001)
	noID.Headers = slices.DeleteFunc(noID.Headers, func(h kgo.RecordHeader) bool { return h.Key == "webhook-id" })
	dropped := map[string]*kgo.Record{ // by reason and type
		"no_provider unknown":          {Topic: topic, Value: []byte("something else's")},
		"no_event_id opened":           noID,
		"not_json unknown":             record("k", "msg_3", "{"),
		"no_type unknown":              record("k", "msg_3", "{}"),
		"untracked_type unknown":       body("contact.created", "2026-03-01T12:00:00Z", email.String()),
		"no_email_id opened":           record("k", "msg_3", `{"type":"email.opened"}`),
		"bad_email_id delivered":       body("email.delivered", "2026-03-01T12:00:00Z", "x"),
		"bad_time bounced":             body("email.bounced", "x", email.String()),
		"time_out_of_range suppressed": body("email.suppressed", "9999-01-01T00:00:00Z", email.String()),
		"refused clicked":              poison,
	}
	if len(dropped) != len(tracking.Reasons())-1 { // too_large is a producer's
		t.Fatalf("%d reasons of %d", len(dropped), len(tracking.Reasons())-1)
	}
	wantDropped, consumed := make(map[string]int), make(map[string]int)
	for key, r := range dropped {
		if r != poison {
			records = append(records, r)
		}
		wantDropped[key] = 1
		consumed[strings.Fields(key)[1]]++
	}
	consumed["clicked"]++ // the poison is consumed again for its dead letter
	for _, counts := range []map[string]int{applied, duplicate} {
		for typ, n := range counts {
			consumed[typ] += n
		}
	}
	s.produce(append(records, repeats...)...)
	m := s.start(&tracking.Store{Pool: s.pool})
	s.committed()
	s.produce(poison)
	s.committed()
	m.stop()
	for name, want := range map[string]map[string]int{
		"mailtally_events_consumed_total":  consumed,
		"mailtally_events_refetched_total": {"": 1},
		"mailtally_events_applied_total":   applied,
		"mailtally_events_duplicate_total": duplicate,
		"mailtally_events_dropped_total":   wantDropped,
		"mailtally_first_opens_total":      {"": 1},
		"mailtally_first_clicks_total":     {"": 1},
	} {
		if got := counted(t, m, name); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s\n got %v\nwant %v", name, got, want)
		}
	}
}

// The histograms hold what happened: how long the store took for a batch, how many
// events it had, and how long ago their webhooks were received.
func TestMetrics_Histograms(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	real := &tracking.Store{Pool: s.pool}
	store, inHand, release := held(real)
	const events = 7
	started := time.Now()
	received := started.Add(-time.Hour)
	email := uuid.New()
	records := make([]*kgo.Record, events)
	for n := range records {
		records[n] = webhook(email, tracking.Opened, n)
		for i := range records[n].Headers {
			if records[n].Headers[i].Key == "received-at" {
				records[n].Headers[i].Value = []byte(received.Add(time.Duration(n) * time.Minute).UTC().Format(time.RFC3339Nano))
			}
		}
	}
	// They go in one request, so they are one batch.
	client, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Addr()), kgo.ProducerLinger(time.Minute), kgo.ManualFlushing())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, r := range records {
		client.Produce(s.ctx, r, nil)
	}
	if err := client.Flush(s.ctx); err != nil {
		t.Fatal(err)
	}
	m := s.start(store)
	<-inHand
	waited := time.NewTimer(50 * time.Millisecond) // what the store takes
	from := time.Now()
	<-waited.C
	least := time.Since(from).Seconds()
	close(release)
	s.committed()
	most := time.Since(started).Seconds()
	m.stop()

	if h := histogram(t, m, "mailtally_apply_duration_seconds"); h.GetSampleCount() != 1 || h.GetSampleSum() < least || h.GetSampleSum() > most {
		t.Errorf("apply took %v s in %d batches, want between %v and %v in one", h.GetSampleSum(), h.GetSampleCount(), least, most)
	}
	if h := histogram(t, m, "mailtally_apply_batch_events"); h.GetSampleCount() != 1 || h.GetSampleSum() != events {
		t.Errorf("%v events in %d batches, want %d in one", h.GetSampleSum(), h.GetSampleCount(), events)
	}
	h := histogram(t, m, "mailtally_event_delay_seconds")
	want := events*time.Hour.Seconds() - (events*(events-1)/2)*time.Minute.Seconds()
	if h.GetSampleCount() != events || h.GetSampleSum() < want || h.GetSampleSum() > want+events*most {
		t.Errorf("a delay of %v s of %d events, want %v of %d", h.GetSampleSum(), h.GetSampleCount(), want, events)
	}
}

// The bounds that alerts use exist, the measured median is not in a histogram's first
// bucket, and there are native buckets beside the classic ones.
func TestMetrics_Buckets(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	m := s.start(&tracking.Store{Pool: s.pool})
	s.produce(webhook(uuid.New(), tracking.Opened, 1))
	s.committed()
	m.stop()
	for name, want := range map[string]struct {
		median float64
		bounds []float64
	}{
		"mailtally_event_delay_seconds":    {.0025, []float64{.001, .0025, 1, 10}},
		"mailtally_apply_duration_seconds": {.0007, []float64{.25, 1, 5}},
		"mailtally_apply_batch_events":     {3_000, []float64{1, 10_000}},
	} {
		h := histogram(t, m, name)
		var bounds []float64
		for _, b := range h.GetBucket() {
			bounds = append(bounds, b.GetUpperBound())
		}
		for _, bound := range want.bounds {
			if !slices.Contains(bounds, bound) {
				t.Errorf("%s has no bound %v: %v", name, bound, bounds)
			}
		}
		if bounds[0] >= want.median {
			t.Errorf("%s begins with %v, and half of what was measured is below %v", name, bounds[0], want.median)
		}
		// Schema 3 has eight buckets from one power of two to the next.
		if h.Schema == nil || math.Pow(2, math.Pow(2, -float64(h.GetSchema()))) > 1.1 || len(h.GetPositiveSpan()) == 0 {
			t.Errorf("%s has no native buckets 10 %% apart: schema %v", name, h.Schema)
		}
	}
}

// Each reason for a retry is counted under its own label.
func TestMetrics_Retries(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	real := &tracking.Store{Pool: s.pool}
	answer := func(code string) error { return fmt.Errorf("apply: %w", &pgconn.PgError{Code: code}) }
	faults := []error{
		answer("57P01"), answer("57014"), answer("40P01"), answer("53100"), answer("42P01"), answer("XX000"),
	}
	var next atomic.Pointer[error]
	m := s.start(storeFunc(func(ctx context.Context, events []tracking.Event) (tracking.Result, error) {
		if fault := next.Swap(nil); fault != nil {
			return tracking.Result{}, *fault
		}
		return real.Apply(ctx, events)
	}))
	for n := range faults { // one after the other, so that the backoff does not grow
		next.Store(&faults[n])
		s.produce(webhook(uuid.New(), tracking.Opened, n))
		s.committed()
	}
	fault := s.broker.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: deadLetter, Count: -1})
	s.produce(record("k", "msg_2", "no JSON"))
	s.until("a dead letter to be refused", func() bool { return counted(t, m, "mailtally_apply_retries_total")["dead_letter"] > 0 })
	fault.Remove()
	s.committed()
	m.stop()
	s.reconciled(m)
	got := counted(t, m, "mailtally_apply_retries_total")
	if got["dead_letter"] > 1 {
		got["dead_letter"] = 1 // it was retried for a while
	}
	want := map[string]int{"connection": 1, "timeout": 1, "conflict": 1, "resources": 1, "schema": 1, "other": 1, "dead_letter": 1}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Whatever is in the topic adds no series: 10,000 different emails, types, providers
// and foreign reasons.
func TestMetrics_HostileRecordsMakeNoSeries(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	m := s.start(&tracking.Store{Pool: s.pool})
	s.until("the lags", func() bool { return len(lags(t, m)) == partitions })
	all := func() (n int) {
		families, err := m.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			n += len(family.GetMetric())
		}
		return n
	}
	before := all()
	const hostile = 10_000
	var sent sync.WaitGroup
	for n := range hostile {
		r := webhook(uuid.New(), tracking.Opened, n)
		switch n % 4 {
		case 1:
			r = record(fmt.Sprint(n), fmt.Sprint("msg_", n), fmt.Sprintf(`{"type":"email.hostile%d","data":{"email_id":"hostile%d"}}`, n, n))
		case 2:
			r.Headers[0].Value = fmt.Appendf(nil, "hostile%d", n) // provider
		case 3:
			r.Value = fmt.Appendf(nil, `{"type":"email.opened","created_at":"hostile%d","data":{"email_id":%q}}`, n, uuid.New())
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "reason", Value: fmt.Appendf(nil, "hostile%d", n)})
		sent.Add(1)
		s.client.Produce(s.ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
			sent.Done()
		})
	}
	sent.Wait()
	s.committed()
	if n := sum(t, "mailtally_events_consumed_total", m); n != hostile {
		t.Errorf("%d consumed of %d", n, hostile)
	}
	if after := all(); after != before {
		t.Errorf("%d series, before it were %d", after, before)
	}
	m.stop()
}
