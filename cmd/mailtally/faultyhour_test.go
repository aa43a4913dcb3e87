package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/mailtally/mailtally/internal/faults"
	"github.com/mailtally/mailtally/internal/localkafka"
	"github.com/mailtally/mailtally/internal/testpg"
)

// What must be in no log line: a reader's address, link, IP address and user agent, and
// the text of bodies.
const (
	privateAddress = "reader.private@example.org"
	privateHost    = "private-link.example"
	privateIP      = "203.0.113.77"
	privateAgent   = "PrivateAgent"
	privateText    = "a private subject"
	saslPassword   = "broker-pa55word"
)

// privateClick is a webhook's body that contains all of it.
func privateClick(email, at, path string) []byte {
	return fmt.Appendf(nil, `{"type":"email.clicked","created_at":%[2]q,"data":{"email_id":%[1]q,"to":[%[4]q],"subject":%[5]q,`+
		`"click":{"link":"https://%[6]s/%[3]s","timestamp":%[2]q,"ipAddress":%[7]q,"userAgent":"%[8]s/7.7"}}}`,
		email, at, path, privateAddress, privateText, privateHost, privateIP, privateAgent)
}

// faultyHour is a system whose parts fail.
type faultyHour struct {
	t        *testing.T
	environ  map[string]string
	database *faults.Proxy
	kafkaDir string
	kafka    *localkafka.Broker
	direct   string // the database's URL, past the proxy
}

func newFaultyHour(t *testing.T) *faultyHour {
	h := &faultyHour{t: t, kafkaDir: t.TempDir(), direct: testpg.New(t, "empty", nil)}
	h.startKafka()
	t.Cleanup(func() { h.kafka.Close() })
	u, err := url.Parse(h.direct)
	if err != nil {
		t.Fatal(err)
	}
	h.database = faults.NewProxy(t, u.Host)
	u.Host = h.database.Addr()
	h.environ = map[string]string{
		"KAFKA_BROKERS": h.kafka.Addr(), "KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "mailtally", "KAFKA_SASL_PASSWORD": saslPassword,
		"DATABASE_URL": u.String(), "HTTP_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0", "RESEND_WEBHOOK_SECRETS": testSecret,
	}
	return h
}

// startKafka starts the broker, or restarts it with its data and its address.
func (h *faultyHour) startKafka() {
	h.t.Helper()
	options := []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "mailtally", saslPassword)}
	if h.kafka != nil {
		_, port, _ := net.SplitHostPort(h.environ["KAFKA_BROKERS"])
		n, err := strconv.Atoi(port)
		if err != nil {
			h.t.Fatal(err)
		}
		options = append(options, kfake.Ports(n))
	}
	var err error
	if h.kafka, err = localkafka.Start(h.kafkaDir, nil, options...); err != nil {
		h.t.Fatal(err)
	}
}

// produce writes records to Kafka, bypassing the producer.
func (h *faultyHour) produce(records []*kgo.Record) {
	h.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(h.kafka.Addr()), kgo.SASL(plain.Auth{User: "mailtally", Pass: saslPassword}.AsMechanism()))
	if err != nil {
		h.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		h.t.Fatal(err)
	}
}

// record is a click as the producer writes it, for an email that depends on n.
func record(n int, change func(body []byte) []byte) *kgo.Record {
	now := time.Now().UTC().Format(time.RFC3339Nano)
	id := uuid.NewString()
	return &kgo.Record{Topic: "email-events", Key: []byte(id), Value: change(privateClick(id, now, strconv.Itoa(n))), Headers: []kgo.RecordHeader{
		{Key: "provider", Value: []byte("resend")}, {Key: "webhook-id", Value: []byte("msg_" + strconv.Itoa(n))}, {Key: "received-at", Value: []byte(now)},
	}}
}

// refuse makes PostgreSQL refuse rows with that path, with an error that quotes the
// whole row.
func (h *faultyHour) refuse(path, state string) (stop func()) {
	h.t.Helper()
	pool := connect(h.t, h.direct)
	exec := func(sql string) {
		h.t.Helper()
		if _, err := pool.Exec(h.t.Context(), sql); err != nil {
			h.t.Fatal(err)
		}
	}
	exec(`CREATE OR REPLACE FUNCTION mailtally.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.link LIKE '%` + path + `' THEN
			RAISE EXCEPTION 'refused: %', NEW USING ERRCODE = '` + state + `', CONSTRAINT = 'no_such_link', DETAIL = NEW::text;
		END IF; RETURN NEW; END $$`)
	exec("CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON mailtally.email_event FOR EACH ROW EXECUTE FUNCTION mailtally.refuse()")
	return func() { exec("DROP TRIGGER refuse ON mailtally.email_event") }
}

// atLeast waits until the members together have counted n.
func atLeast(t *testing.T, n int, members []*member, name string, labels ...string) {
	t.Helper()
	eventually(t, func() error {
		if got := numbers(t, members...)(name, labels...); got < n {
			return fmt.Errorf("%s%v: %d, want %d", name, labels, got, n)
		}
		return nil
	})
}

// An hour in which everything fails that can. The log lines answer what a person on
// call asks, concisely, and give away no personal data.
func TestLogs_FaultyHour(t *testing.T) {
	t.Parallel()
	h := newFaultyHour(t)
	migrate := start(t, h.environ, "migrate")
	if code := migrate.wait(); code != 0 {
		t.Fatalf("migrate: %s", migrate.stderr)
	}
	producer := start(t, h.environ, "producer")
	public, admin := producer.addresses()
	// A member that stays, and one that comes and goes and logs at debug.
	first := join(t, h.environ)
	first.line(first.stderr, `"partitions assigned".*"owned":12}`)

	// Forged webhooks, and signed ones that cannot be read.
	const forged, unreadable = 300, 40
	var sending sync.WaitGroup
	for w := range 4 {
		sending.Go(func() {
			for n := range forged / 4 {
				if status := post(t, public, "whsec_Zm9yZ2Vk", fmt.Sprintf("forged_%d_%d", w, n), privateClick(uuid.NewString(), "2026-01-01T00:00:00Z", "x")); status != http.StatusUnauthorized {
					t.Errorf("a forged webhook is answered %d", status)
				}
			}
			for n := range unreadable / 4 {
				if status := post(t, public, testSecret, fmt.Sprintf("unreadable_%d_%d", w, n), []byte(privateText+" from "+privateAddress)); status != http.StatusOK {
					t.Errorf("an unreadable webhook is answered %d", status)
				}
			}
		})
	}

	// Rows that PostgreSQL refuses, first for a while and then for good.
	stop := h.refuse("passing", "P0001")
	h.produce([]*kgo.Record{record(1, func(body []byte) []byte { return []byte(strings.Replace(string(body), "/1\"", "/passing\"", 1)) })})
	atLeast(t, 2, []*member{first}, "mailtally_apply_retries_total", "reason", "other")
	stop()
	stop = h.refuse("refused", "23514")
	h.produce([]*kgo.Record{record(2, func(body []byte) []byte { return []byte(strings.Replace(string(body), "/2\"", "/refused\"", 1)) })})
	atLeast(t, 1, []*member{first}, "mailtally_events_dropped_total", "reason", "refused")
	stop()

	// A flood of dead letters while a member joins.
	second := join(t, with(h.environ, "LOG_LEVEL", "debug"))
	flood := map[string]func(body []byte) []byte{
		"not_json": func(body []byte) []byte { return body[:len(body)-1] },
		"bad_email_id": func(body []byte) []byte {
			return []byte(strings.Replace(string(body), `"email_id":"`, `"email_id":"`+privateAddress, 1))
		},
		"bad_time": func(body []byte) []byte {
			return []byte(strings.NewReplacer(`_at":"`, `_at":"`+privateText, `stamp":"`, `stamp":"`+privateText).Replace(string(body)))
		},
	}
	const each = 1000
	asItIs := func(body []byte) []byte { return body }
	var letters, counted []*kgo.Record
	for n := range each {
		for _, change := range flood {
			letters = append(letters, record(n, change))
		}
		letters = append(letters, record(n, asItIs))
		counted = append(counted, record(n, asItIs))
	}
	second.line(second.stderr, `"partitions assigned".*"owned":6}`)
	h.produce(letters)
	members := []*member{first, second}
	for reason := range flood {
		atLeast(t, each, members, "mailtally_events_dropped_total", "reason", reason)
	}
	atLeast(t, each+1, members, "mailtally_events_applied_total", "type", "clicked")

	// The database goes away and comes back.
	h.database.Away(true)
	h.produce(counted)
	first.line(first.stderr, `"database lost`)
	atLeast(t, 2, []*member{first}, "mailtally_apply_retries_total", "reason", "connection")
	h.database.Away(false)
	first.line(first.stderr, `"database back"`)
	second.endsWell()
	first.line(first.stderr, `(?s)"partitions revoked".*"partitions assigned".*"owned":12}`)

	// Kafka goes away and comes back.
	sending.Wait()
	h.kafka.Close()
	refused := make(chan int)
	go func() {
		refused <- post(t, public, testSecret, "while away", privateClick(uuid.NewString(), time.Now().UTC().Format(time.RFC3339), "away"))
	}()
	if status := <-refused; status != http.StatusServiceUnavailable {
		t.Errorf("a webhook is answered %d without Kafka", status)
	}
	first.line(first.stderr, `"Kafka broker lost`)
	h.startKafka()
	first.line(first.stderr, `"Kafka broker back"`)
	producer.line(producer.stderr, `"Kafka broker back"`)
	eventually(t, func() error {
		if status := post(t, public, testSecret, "after it", privateClick(uuid.NewString(), time.Now().UTC().Format(time.RFC3339), "after")); status != http.StatusOK {
			return fmt.Errorf("a webhook is answered %d", status)
		}
		return nil
	})
	pool := connect(t, h.direct)
	eventually(t, func() error {
		return same("clicks after it", one[int](t, pool, "SELECT count(*) FROM mailtally.email_event WHERE link LIKE '%/after'"), 1)
	})

	received := metrics(t, admin)
	for _, p := range []*process{&first.process, producer} {
		p.endsWell()
	}

	// Each thing that happened has its line, in the right order.
	inOrder(t, migrate, "schema is up to date", "topic created", "topic created")
	inOrder(t, &first.process, "consumer started", "partitions assigned", "partition pausing", "event dropped", "partitions revoked", "database lost", "database back",
		"partitions assigned", "Kafka broker lost", "partitions lost", "Kafka broker back", "partitions assigned", "stopping", "drained", "offsets committed",
		"partitions revoked", "group left", "Kafka connections closed", "closed", "consumer stopped")
	inOrder(t, &second.process, "consumer started", "partitions assigned", "event dropped", "stopping", "drained", "partitions revoked", "group left", "consumer stopped")
	inOrder(t, producer, "producer started", "webhook refused", "Kafka broker lost", "Kafka broker back", "stopping", "drained", "Kafka connections closed", "producer stopped")
	inOrder(t, producer, "webhook dropped", "webhook answered 503")

	// Lines plus repeated add up to the metrics, by reason.
	n := numbers(t, members...)
	dropped := slices.Concat(first.stderr.lines(), second.stderr.lines())
	for _, reason := range []string{"not_json", "bad_email_id", "bad_time", "refused"} {
		lines := said(dropped, "event dropped", reason)
		if err := same("lines of "+reason, stood(lines), n("mailtally_events_dropped_total", "reason", reason)); err != nil {
			t.Error(err)
		}
		if reason != "refused" && len(lines) > each/2 {
			t.Errorf("%d lines for %d events: nothing was held back", len(lines), each)
		}
		for _, line := range lines {
			for _, key := range []string{"group", "type", "topic", "partition", "offset"} {
				if line[key] == nil {
					t.Errorf("no %s in %v", key, line)
				}
			}
		}
	}
	for reason, message := range map[string]string{"unauthorized": "webhook refused", "unavailable": "webhook answered 503"} {
		if err := same(message, stood(said(producer.stderr.lines(), message, reason)), int(total(received, "mailtally_webhooks_total", "result", reason))); err != nil {
			t.Error(err)
		}
	}
	if err := same("unreadable webhooks", stood(said(producer.stderr.lines(), "webhook dropped", "not_json")), unreadable); err != nil {
		t.Error(err)
	}

	// Only known keys, and no private data.
	u, _ := url.Parse(h.direct)
	password, _ := u.User.Password()
	private := []string{privateAddress, privateHost, privateIP, privateAgent, privateText, saslPassword, password, testSecret, strings.TrimPrefix(testSecret, "whsec_")}
	for name, p := range map[string]*process{"migrate": migrate, "producer": producer, "first": &first.process, "second, with debug": &second.process} {
		lines := p.stderr.lines()
		t.Logf("%s: %d lines for %d records", name, len(lines), stood(lines))
		for _, line := range lines {
			for key := range line {
				if !slices.Contains(logKeys, key) && !slices.Contains([]string{"time", "level", "msg"}, key) {
					t.Errorf("%s: key %q in %v", name, key, line)
				}
			}
		}
		for _, text := range private {
			if text == "" || strings.Contains(p.stdout.String()+p.stderr.String(), text) {
				t.Errorf("%s: %q is in the logs", name, text)
			}
		}
	}
}

func (l logLine) time() time.Time {
	at, err := time.Parse(time.RFC3339Nano, l["time"].(string))
	if err != nil {
		panic(err)
	}
	return at
}

// said gives the lines whose message begins with message, for that reason.
func said(lines []logLine, message, reason string) []logLine {
	return slices.DeleteFunc(slices.Clone(lines), func(l logLine) bool {
		return !strings.HasPrefix(l["msg"].(string), message) || l["reason"] != reason
	})
}

// inOrder fails unless the process has logged lines that begin so, in this order, with
// anything between them. Lines that the limiter held back may come later.
func inOrder(t *testing.T, p *process, messages ...string) {
	t.Helper()
	lines := p.stderr.lines()
	slices.SortStableFunc(lines, func(a, b logLine) int { return a.time().Compare(b.time()) })
	for _, message := range messages {
		i := slices.IndexFunc(lines, func(l logLine) bool { return strings.HasPrefix(l["msg"].(string), message) })
		if i < 0 {
			t.Errorf("no line %q in its place in\n%s", message, p.stderr)
			return
		}
		lines = lines[i+1:]
	}
}
