package consumer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/consumer"
	"github.com/mailtally/mailtally/internal/faults"
	"github.com/mailtally/mailtally/internal/localkafka"
	"github.com/mailtally/mailtally/internal/testpg"
	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider/all"
)

func TestMain(m *testing.M) {
	os.Exit(testpg.Run(m))
}

const (
	topic      = "email-events"
	deadLetter = "email-events.dead-letter"
	group      = "mailtally"
	partitions = 4
	patience   = time.Minute // bounds waits for what must happen; never waited out
)

// system is a broker with the topics, a database with the schema, and a client that
// plays the producer.
type system struct {
	t      *testing.T
	ctx    context.Context
	broker *localkafka.Broker
	client *kgo.Client
	admin  *kadm.Client
	pool   *pgxpool.Pool // with a consumer's rights
	owner  *pgxpool.Pool // of the schema
}

func newSystem(t *testing.T, more ...kfake.Opt) *system {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	s := &system{t: t, ctx: ctx}
	var err error
	if s.broker, err = localkafka.Start(t.TempDir(), slog.New(slog.DiscardHandler), more...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.broker.Close)
	s.client, err = kgo.NewClient(kgo.SeedBrokers(s.broker.Addr()), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	s.admin = kadm.NewClient(s.client)
	for name, n := range map[string]int32{topic: partitions, deadLetter: 1} {
		if _, err := s.admin.CreateTopic(ctx, n, 1, nil, name); err != nil {
			t.Fatal(err)
		}
	}
	owner := testpg.New(t, "mailtally", func(ctx context.Context, url string) error {
		pool, err := pgxpool.New(ctx, url)
		if err != nil {
			return err
		}
		defer pool.Close()
		if err := tracking.Migrate(ctx, pool); err != nil {
			return err
		}
		return testpg.Grant(ctx, url)
	})
	s.owner, s.pool = s.connect(owner), s.connect(testpg.As(testpg.Consumer, owner))
	return s
}

func (s *system) connect(url string) *pgxpool.Pool {
	s.t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		s.t.Fatal(err)
	}
	config.ConnConfig.OnNotice = tracking.NoteWarning
	pool, err := pgxpool.NewWithConfig(s.ctx, config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(pool.Close)
	return pool
}

// proxied is a pool whose connections go through a proxy.
func (s *system) proxied() (*pgxpool.Pool, *faults.Proxy) {
	s.t.Helper()
	config := s.pool.Config().ConnConfig
	proxy := faults.NewProxy(s.t, fmt.Sprintf("%s:%d", config.Host, config.Port))
	u, err := url.Parse(s.pool.Config().ConnString())
	if err != nil {
		s.t.Fatal(err)
	}
	u.Host = proxy.Addr()
	return s.connect(u.String()), proxy
}

// member is a running consumer.
type member struct {
	*consumer.Consumer
	reg  *prometheus.Registry
	logs *logs
	stop func() // stops it as SIGTERM does, and waits
}

// start runs a member on store until the test ends or it is stopped.
func (s *system) start(store consumer.Store, change ...func(*consumer.Options)) *member {
	s.t.Helper()
	m := &member{reg: prometheus.NewPedanticRegistry(), logs: new(logs)}
	options := consumer.Options{
		Kafka: []kgo.Opt{kgo.SeedBrokers(s.broker.Addr())}, Topic: topic, DeadLetterTopic: deadLetter, Group: group,
		Providers: all.Providers(), Store: store, Registerer: m.reg, Logger: slog.New(slog.NewTextHandler(m.logs, nil)),
	}
	for _, f := range change {
		f(&options)
	}
	var err error
	if m.Consumer, err = consumer.New(options); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	var running sync.WaitGroup
	running.Go(func() { m.Run(ctx) })
	m.stop = func() {
		cancel()
		running.Wait()
	}
	s.t.Cleanup(m.stop)
	return m
}

// logs is a member's log.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// webhook is a record as the producer writes it.
func webhook(email uuid.UUID, typ tracking.Type, n int) *kgo.Record {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Second).Format(time.RFC3339Nano)
	body := fmt.Sprintf(`{"type":"email.%s","created_at":%q,"data":{"email_id":%q,"click":{"link":"https://example.com/%d"}}}`, typ, at, email, n)
	return record(email.String(), "msg_"+strconv.Itoa(n), body)
}

func record(key, webhookID, body string) *kgo.Record {
	return &kgo.Record{
		Topic: topic, Key: []byte(key), Value: []byte(body),
		Headers: []kgo.RecordHeader{
			{Key: "provider", Value: []byte("resend")},
			{Key: "webhook-id", Value: []byte(webhookID)},
			{Key: "webhook-timestamp", Value: []byte("1772366400")},
			{Key: "received-at", Value: []byte("2026-03-01T12:00:00.123456789Z")},
		},
	}
}

func (s *system) produce(records ...*kgo.Record) {
	s.t.Helper()
	if err := s.client.ProduceSync(s.ctx, records...).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
}

// until polls for a state that gives no signal.
func (s *system) until(what string, reached func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	for !reached() {
		select {
		case <-ctx.Done():
			s.t.Fatalf("timed out waiting for %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// committed waits until the group has committed everything in the topic.
func (s *system) committed() {
	s.t.Helper()
	s.until("the group to commit everything", func() bool { return s.uncommitted() == 0 })
}

// uncommitted is the number of records that the group has not committed.
func (s *system) uncommitted() int64 {
	s.t.Helper()
	ends, err := s.admin.ListEndOffsets(s.ctx, topic)
	if err != nil {
		s.t.Fatal(err)
	}
	var left int64
	info := s.broker.Cluster.GroupInfo(group)
	ends.Each(func(end kadm.ListedOffset) {
		left += end.Offset
		if info != nil {
			left -= max(0, info.Commits[topic][end.Partition].Offset)
		}
	})
	return left
}

// joined waits until the group is stable with n members.
func (s *system) joined(n int) *kfake.GroupInfo {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	info, err := s.broker.Cluster.WaitGroupInfo(ctx, group, func(g *kfake.GroupInfo) bool {
		return g != nil && len(g.Members) == n && (n == 0 || g.State == "Stable" && g.NumAssigned() == partitions)
	})
	if err != nil {
		s.t.Fatalf("timed out waiting for a group of %d members: %+v", n, info)
	}
	return info
}

// deadLetters gives all dead letters.
func (s *system) deadLetters() []*kgo.Record {
	s.t.Helper()
	ends, err := s.admin.ListEndOffsets(s.ctx, deadLetter)
	if err != nil {
		s.t.Fatal(err)
	}
	end, _ := ends.Lookup(deadLetter, 0)
	client, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Addr()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{deadLetter: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close()
	var letters []*kgo.Record
	for int64(len(letters)) < end.Offset {
		fetches := client.PollFetches(s.ctx)
		if err := fetches.Err(); err != nil {
			s.t.Fatal(err)
		}
		letters = append(letters, fetches.Records()...)
	}
	return letters
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// sum sums a metric's series over members, stopped ones included.
func sum(t *testing.T, name string, members ...*member) int {
	t.Helper()
	total := 0.0
	for _, m := range members {
		families, err := m.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() == name {
				for _, series := range family.GetMetric() {
					total += series.GetCounter().GetValue() + series.GetGauge().GetValue()
				}
			}
		}
	}
	return int(total)
}

// unreconciled is how many consumed events are not accounted for.
func unreconciled(t *testing.T, members ...*member) (n int) {
	t.Helper()
	for _, m := range members {
		families, err := m.reg.Gather() // one scrape
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			sign := map[string]int{
				"mailtally_events_consumed_total": 1, "mailtally_events_applied_total": -1, "mailtally_events_duplicate_total": -1,
				"mailtally_events_dropped_total": -1, "mailtally_events_refetched_total": -1, "mailtally_events_in_flight": -1,
			}[family.GetName()]
			for _, series := range family.GetMetric() {
				n += sign * int(series.GetCounter().GetValue()+series.GetGauge().GetValue())
			}
		}
	}
	return n
}

// gather is one metric of a member; nil while it has no series.
func gather(t *testing.T, m *member, name string) *dto.MetricFamily {
	t.Helper()
	families, err := m.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family
		}
	}
	return nil
}

func label(series *dto.Metric, name string) string {
	for _, l := range series.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// number runs a query for a single number.
func (s *system) number(sql string, args ...any) (n int) {
	s.t.Helper()
	if err := s.owner.QueryRow(s.ctx, sql, args...).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// reconciled fails unless consumed = applied + duplicate + dropped + refetched + in
// flight, and the tally and its history contain what was applied.
func (s *system) reconciled(members ...*member) {
	s.t.Helper()
	if n := unreconciled(s.t, members...); n != 0 {
		s.t.Errorf("%d consumed events are not accounted for", n)
	}
	applied := sum(s.t, "mailtally_events_applied_total", members...)
	if n := s.number("SELECT count(*) FROM mailtally.email_event"); n != applied {
		s.t.Errorf("%d events were applied, the history has %d", applied, n)
	}
	if n := s.number("SELECT coalesce(sum(open_count + click_count), 0) FROM mailtally.email"); n != s.number("SELECT count(*) FROM mailtally.email_event WHERE type IN ('opened', 'clicked')") {
		s.t.Errorf("the tally counts %d opens and clicks, the history has a different number", n)
	}
	for name, column := range map[string]string{"mailtally_first_opens_total": "opened_at", "mailtally_first_clicks_total": "clicked_at"} {
		if got, want := sum(s.t, name, members...), s.number("SELECT count("+column+") FROM mailtally.email"); got != want {
			s.t.Errorf("%s is %d, and %d rows have %s", name, got, want, column)
		}
	}
}

// cutKafka has the broker close the connection of each client's next fetch, produce,
// heartbeat and commit.
func (s *system) cutKafka() {
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.Produce, kmsg.Heartbeat, kmsg.OffsetCommit} {
		s.broker.Cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			return nil, errors.New("cut"), true
		})
	}
}
