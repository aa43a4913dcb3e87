package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// freePorts is the environment of a dev that collides with no other.
var freePorts = map[string]string{"HTTP_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0"}

// joinIn is the environment that a dev prints for other terminals.
func joinIn(p *process) map[string]string {
	p.t.Helper()
	p.line(p.stdout, "^RESEND_WEBHOOK_SECRETS=") // the last
	environ := make(map[string]string)
	for _, line := range regexp.MustCompile(`(?m)^([A-Z_]+)=(.+)$`).FindAllStringSubmatch(p.stdout.String(), -1) {
		environ[line[1]] = line[2]
	}
	return environ
}

// devPassword is the password of dev's Kafka.
func devPassword(environ map[string]string) kgo.Opt {
	return kgo.SASL(scram.Auth{User: environ["KAFKA_SASL_USERNAME"], Pass: environ["KAFKA_SASL_PASSWORD"]}.AsSha256Mechanism())
}

// status is a line of dev's numbers.
const status = `^\d\d:\d\d:\d\d  received (\d+)  applied (\d+)  duplicate (\d+)  dropped (\d+)  first opens (\d+)  first clicks (\d+)  lag (\d+|unknown)$`

// opened is the body of an open.
func opened(email uuid.UUID) []byte {
	return fmt.Appendf(nil, `{"type":"email.opened","created_at":%q,"data":{"email_id":%q}}`, time.Now().UTC().Format(time.RFC3339Nano), email)
}

// awaitOpen waits until the open of an email is in the database.
func awaitOpen(t *testing.T, pool *pgxpool.Pool, email uuid.UUID) {
	t.Helper()
	eventually(t, func() error {
		return same("rows with the open", one[int](t, pool, "SELECT count(*) FROM mailtally.email_history WHERE id = $1 AND open_count = 1", email), 1)
	})
}

// gone is an error while anything of an ended dev is left.
func gone(environ map[string]string, folder string) error {
	if _, err := os.Stat(folder); folder != "" && !os.IsNotExist(err) {
		return fmt.Errorf("folder %s is left: %v", folder, err)
	}
	u, err := url.Parse(environ["DATABASE_URL"])
	if err != nil {
		return err
	}
	for _, addr := range []string{environ["KAFKA_BROKERS"], environ["HTTP_ADDR"], environ["ADMIN_ADDR"], u.Host} {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return fmt.Errorf("something still listens on %s", addr)
		}
	}
	return nil
}

// The whole of dev, as a newcomer meets it.
func TestDev(t *testing.T) {
	t.Parallel()
	p := start(t, freePorts, "dev", "-rate", "200")
	environ := joinIn(p)
	pool := connect(t, environ["DATABASE_URL"])
	folder := filepath.Dir(filepath.Dir(one[string](t, pool, "SHOW data_directory")))

	// Another terminal with the printed environment can join in.
	other := start(t, with(environ, "ADMIN_ADDR", "127.0.0.1:0"), "consumer")
	_, admin := other.addresses()
	other.line(other.stderr, `"partitions assigned"`)
	eventually(t, func() error {
		if total(metrics(t, admin), "mailtally_events_applied_total") == 0 {
			return fmt.Errorf("the consumer that joined applies nothing")
		}
		return nil
	})
	email := uuid.New()
	if code := post(t, environ["HTTP_ADDR"], environ["RESEND_WEBHOOK_SECRETS"], "msg_1", opened(email)); code != http.StatusOK {
		t.Errorf("a signed webhook: %d", code)
	}
	if code := post(t, environ["HTTP_ADDR"], testSecret, "msg_2", opened(email)); code != http.StatusUnauthorized {
		t.Errorf("a webhook signed with another secret: %d", code)
	}
	awaitOpen(t, pool, email)
	if p := start(t, environ, "simulate", "-total", "20"); p.wait() != 0 || !strings.Contains(p.stdout.String(), "webhooks 20 ") {
		t.Errorf("simulate: %s%s", p.stdout, p.stderr)
	}
	// A stranger's nonsense does not end it, and strangers write nothing into its Kafka.
	conn, err := net.Dial("tcp", environ["KAFKA_BROKERS"])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("\x00\x00\x00\x0b\x03\xe8\x00\x00\x00\x00\x00\x01\xff\xff\x00")); err != nil { // API key 1000
		t.Error(err)
	}
	io.Copy(io.Discard, conn) // until it is closed
	conn.Close()
	p.line(p.stderr, `level=WARN msg="connection closed: .*" component="embedded kafka" client=.* api_key=1000`)
	stranger, err := kgo.NewClient(kgo.SeedBrokers(environ["KAFKA_BROKERS"]), kgo.RetryTimeout(0), kgo.RecordRetries(0), kgo.RecordDeliveryTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.ProduceSync(t.Context(), &kgo.Record{Topic: "email-events", Value: opened(email)}).FirstErr(); err == nil {
		t.Error("a client without a password writes into dev's Kafka")
	}
	stranger.Close()
	for _, path := range []string{"/readyz", "/healthz", "/metrics"} {
		if code, text := get(t, "http://"+environ["ADMIN_ADDR"]+path); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, text)
		}
		if code, _ := get(t, "http://"+environ["HTTP_ADDR"]+path); code != http.StatusNotFound {
			t.Errorf("%s on the public port: %d", path, code)
		}
	}
	if code, text := get(t, p.line(p.stdout, "^Watch it live: (http://.+)$")[1]); code != http.StatusOK || !strings.Contains(text, "<title>mailtally") {
		t.Errorf("the page it names: %d %s", code, text)
	}
	other.endsWell()

	lines := p.line(p.stdout, `(?s)`+status+`.*`+status)
	for i, name := range []string{"", "received", "applied"} {
		before, _ := strconv.Atoi(lines[i])
		after, _ := strconv.Atoi(lines[i+7])
		if i > 0 && after <= before {
			t.Errorf("%s does not move: %d, then %d", name, before, after)
		}
	}
	pool.Close()
	p.endsWell()
	if err := gone(environ, folder); err != nil {
		t.Error(err)
	}
}

// Two systems in one process do not interfere.
func TestTwoAppsInOneProcess(t *testing.T) {
	t.Parallel()
	a, b := start(t, freePorts, "dev", "-rate", "20"), start(t, freePorts, "dev", "-rate", "0")
	inA, inB := joinIn(a), joinIn(b)
	for name := range inA {
		if inA[name] == inB[name] && name != "KAFKA_SASL_MECHANISM" && name != "KAFKA_SASL_USERNAME" {
			t.Errorf("both have %s=%s", name, inA[name])
		}
	}
	dbA, dbB := connect(t, inA["DATABASE_URL"]), connect(t, inB["DATABASE_URL"])
	emailA, emailB := uuid.New(), uuid.New()
	post(t, inA["HTTP_ADDR"], inA["RESEND_WEBHOOK_SECRETS"], "msg_1", opened(emailA))
	post(t, inB["HTTP_ADDR"], inB["RESEND_WEBHOOK_SECRETS"], "msg_1", opened(emailB))
	if code := post(t, inB["HTTP_ADDR"], inA["RESEND_WEBHOOK_SECRETS"], "msg_2", opened(emailA)); code != http.StatusUnauthorized {
		t.Errorf("a webhook with the other's secret: %d", code)
	}
	awaitOpen(t, dbA, emailA)
	awaitOpen(t, dbB, emailB)
	if n := one[int](t, dbA, "SELECT count(*) FROM mailtally.email WHERE id = $1", emailB); n != 0 {
		t.Error("an event of one system is in the other")
	}

	// The one without traffic has counted its one webhook, and keeps running when the
	// other ends.
	dbA.Close()
	a.endsWell()
	if err := gone(inA, ""); err != nil {
		t.Error(err)
	}
	again := uuid.New()
	if code := post(t, inB["HTTP_ADDR"], inB["RESEND_WEBHOOK_SECRETS"], "msg_3", opened(again)); code != http.StatusOK {
		t.Errorf("a webhook after the other's end: %d", code)
	}
	awaitOpen(t, dbB, again)
	if n := one[int](t, dbB, "SELECT count(*) FROM mailtally.email"); n != 2 {
		t.Errorf("%d emails, want the 2 that were sent", n)
	}
	for name, want := range map[string]float64{"mailtally_webhooks_total": 3, "mailtally_events_applied_total": 2, "mailtally_first_opens_total": 2} {
		eventually(t, func() error { return same(name, total(metrics(t, inB["ADMIN_ADDR"]), name), want) })
	}
	dbB.Close()
	b.endsWell()
}

// A data folder continues where it stopped: counts, offsets, secret.
func TestDev_DataFolder(t *testing.T) {
	t.Parallel()
	folder := dataFolder(t)
	first := start(t, freePorts, "dev", "-data", folder, "-rate", "500")
	before := joinIn(first)
	first.line(first.stdout, "  applied [1-9]")

	other := start(t, freePorts, "dev", "-data", folder)
	want := fmt.Sprintf("the data folder %s is in use by another mailtally dev (process %d): stop it, or choose another -data folder\n", folder, os.Getpid())
	if code := other.wait(); code != exitFailure || !strings.HasSuffix(other.stderr.String(), want) {
		t.Errorf("a second dev on the folder: exit code %d, %s", code, other.stderr)
	}
	other = start(t, with(freePorts, "HTTP_ADDR", before["HTTP_ADDR"]), "dev")
	if code := other.wait(); code != exitFailure || !strings.Contains(other.stderr.String(), "HTTP_ADDR: "+before["HTTP_ADDR"]+" is in use") {
		t.Errorf("a second dev on the port: exit code %d, %s", code, other.stderr)
	}
	if code := first.stop(); code != 0 {
		t.Fatalf("exit code %d: %s", code, first.stderr)
	}
	if err := gone(before, ""); err != nil {
		t.Error(err)
	}
	done := first.line(first.stdout, `(?s)stopping\n`+status)
	if done[7] != "unknown" { // the members have left
		t.Errorf("at the end the lag is said to be %s", done[7])
	}

	second := start(t, freePorts, "dev", "-data", folder, "-rate", "0")
	after := joinIn(second)
	if after["RESEND_WEBHOOK_SECRETS"] != before["RESEND_WEBHOOK_SECRETS"] || after["DATABASE_URL"] != before["DATABASE_URL"] {
		t.Errorf("the environment changed from %v to %v", before, after)
	}
	eventually(t, func() error { return same("lag", lag(t, after["KAFKA_BROKERS"], "mailtally", devPassword(after)), 0) })
	consumed := 0
	for _, text := range done[2:5] {
		n, _ := strconv.Atoi(text)
		consumed += n
	}
	if consumed == 0 {
		t.Error("the first run consumed nothing")
	}
	// It resumes from the committed offsets, not from the beginning.
	eventually(t, func() error {
		now := metrics(t, after["ADMIN_ADDR"])
		again := total(now, "mailtally_events_consumed_total") - total(now, "mailtally_events_refetched_total")
		return same("consumed in both runs", consumed+int(again),
			int(records(t, after["KAFKA_BROKERS"], "email-events", devPassword(after))))
	})
	pool := connect(t, after["DATABASE_URL"])
	kept := one[int](t, pool, "SELECT count(*) FROM mailtally.email")
	email := uuid.New()
	post(t, after["HTTP_ADDR"], after["RESEND_WEBHOOK_SECRETS"], "msg_1", opened(email))
	awaitOpen(t, pool, email)
	if n := one[int](t, pool, "SELECT count(*) FROM mailtally.email"); kept == 0 || n != kept+1 {
		t.Errorf("%d emails, then %d", kept, n)
	}
	if n := total(metrics(t, after["ADMIN_ADDR"]), "mailtally_webhooks_total"); n != 1 {
		t.Errorf("%v webhooks received at a rate of 0, want the one that was posted", n)
	}
	pool.Close()
	second.endsWell()
}

// dataFolder is a folder that PostgreSQL's user can reach even if this is root.
func dataFolder(t *testing.T) string {
	t.Helper()
	parent, err := os.MkdirTemp("", "mailtally-test-")
	if err == nil {
		err = os.Chmod(parent, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(parent); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(parent, "data")
}
