package consumer_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/tracking"
)

// zstd is a client whose records may be large, as long as they compress.
func (s *system) zstd() *kgo.Client {
	s.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Addr()), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.ProducerBatchMaxBytes(8<<20), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	return client
}

// A record with a header that no dead-letter topic accepts stops nobody: its letter is
// cut, and those behind it are counted once.
func TestI4_DeadLetterWithAHugeHeader(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	email := uuid.New()
	bad := record(email.String(), "msg_bad", "no JSON")
	bad.Headers = append(bad.Headers, kgo.RecordHeader{Key: "trace", Value: make([]byte, 2_300_000)})
	if err := s.zstd().ProduceSync(s.ctx, bad).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s.opens(email, 0, 200)
	m := s.start(&tracking.Store{Pool: s.pool})
	s.committed()
	m.stop()
	s.reconciled(m)
	letters := s.deadLetters()
	if len(letters) != 1 {
		t.Fatalf("%d dead letters, want 1: %s", len(letters), m.logs)
	}
	l := letters[0]
	if header(l, "reason") != "not_json" || header(l, "source-partition") != fmt.Sprint(bad.Partition) || header(l, "source-offset") != "0" {
		t.Errorf("the letter lacks its reason or its place: %v", l.Headers)
	}
	if string(l.Value) != "no JSON" || string(l.Key) != email.String() || header(l, "webhook-id") != "msg_bad" ||
		header(l, "headers-omitted") == "" || header(l, "trace") != "" || header(l, "value-omitted") != "" {
		t.Errorf("cut is more than the header, or it is not named: %.200v", l)
	}
	if n := sum(t, "mailtally_events_duplicate_total", m); n != 0 {
		t.Errorf("%d duplicates, want none", n)
	}
}

// random is text that does not compress.
func random(n int) string {
	text := make([]byte, n)
	if _, err := rand.Read(text); err != nil {
		panic(err)
	}
	return string(text)
}

// A dead-letter topic accepts less than the event topic. Letters that it accepts are whole,
// whatever shared their batch; of the others, the parts that are too large are cut, and
// named.
func TestI4_DeadLetterTopicWithASmallLimit(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	limit := "20000"
	if _, err := s.admin.AlterTopicConfigs(s.ctx, []kadm.AlterConfig{{Name: "max.message.bytes", Value: &limit}}, deadLetter); err != nil {
		t.Fatal(err)
	}
	email := uuid.New().String()
	with := func(r *kgo.Record, name, value string) *kgo.Record {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		return r
	}
	omitted := map[string]string{ // of the letters that are not whole
		"value": "value", "others": "headers", "many": "headers", "id": "headers", "key": "key", "all": "value headers key", "small": "value headers key",
	}
	records := map[string]*kgo.Record{
		"value":  record(email, "value", random(30_000)),
		"others": with(record(email, "others", "no JSON"), "trace", random(30_000)),
		"many":   record(email, "many", "no JSON"),
		"id":     record(email, "id"+random(30_000), "no JSON"),
		"key":    record(random(30_000), "key", "no JSON"),
		"all":    with(record(random(30_000), "all", random(30_000)), "trace", random(30_000)),
	}
	for n := range 300 {
		with(records["many"], fmt.Sprint("x-", n), random(100))
	}
	var all []*kgo.Record
	for name, r := range records {
		all = append(all, with(r, "name", name))
	}
	const whole = 300
	for n := range whole {
		all = append(all, record(email, fmt.Sprint("whole-", n), random(200)))
	}
	s.produce(all...)
	m := s.start(&tracking.Store{Pool: s.pool})
	s.committed()
	m.stop()
	s.reconciled(m)
	byPlace := make(map[string]*kgo.Record)
	for _, l := range s.deadLetters() {
		byPlace[header(l, "source-partition")+" "+header(l, "source-offset")] = l
	}
	if len(byPlace) != len(all) {
		t.Errorf("letters of %d records, want %d", len(byPlace), len(all))
	}
	for _, r := range all {
		l := byPlace[fmt.Sprint(r.Partition, " ", r.Offset)]
		if l == nil || header(l, "reason") != "not_json" {
			t.Errorf("record %.20q has no letter", header(r, "webhook-id"))
			continue
		}
		var named []string
		for _, part := range []string{"value", "headers", "key"} {
			if header(l, part+"-omitted") != "" {
				named = append(named, part)
			}
		}
		if got := strings.Join(named, " "); got != omitted[header(r, "name")] {
			t.Errorf("of %.20q is cut: %q", header(r, "webhook-id"), got)
		} else if got == "" && (!bytes.Equal(l.Value, r.Value) || !bytes.Equal(l.Key, r.Key) || header(l, "webhook-id") != header(r, "webhook-id")) {
			t.Errorf("the letter of %.20q is not whole", header(r, "webhook-id"))
		}
	}
}

// A topic that accepts next to nothing gets reason and place all the same.
func TestI4_DeadLetterTopicWithATinyLimit(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	limit := "500"
	if _, err := s.admin.AlterTopicConfigs(s.ctx, []kadm.AlterConfig{{Name: "max.message.bytes", Value: &limit}}, deadLetter); err != nil {
		t.Fatal(err)
	}
	s.produce(record(random(300), random(300), random(4_000)))
	m := s.start(&tracking.Store{Pool: s.pool})
	s.committed()
	m.stop()
	s.reconciled(m)
	letters := s.deadLetters()
	if len(letters) != 1 || header(letters[0], "reason") != "not_json" || header(letters[0], "source-topic") != topic || header(letters[0], "source-offset") != "0" {
		t.Errorf("dead letters: %v", letters)
	}
}

// A dead-letter topic that accepts nothing holds up the partitions with letters, ever
// longer, and no other; somebody is told.
func TestI4_DeadLetterTopicThatRefuses(t *testing.T) {
	t.Parallel()
	for _, refusal := range []*kerr.Error{kerr.TopicAuthorizationFailed, kerr.PolicyViolation, kerr.InvalidRecord} {
		t.Run(refusal.Message, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			fault := s.broker.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: deadLetter, Err: refusal, Count: -1})
			m := s.start(&tracking.Store{Pool: s.pool}, impatient)
			email := uuid.New()
			bad := record(email.String(), "msg_bad", "no JSON")
			s.produce(bad)
			behind := 5
			s.opens(email, 0, behind)
			stuck := regexp.MustCompile(fmt.Sprintf(`level=ERROR msg="partition stuck.* partition=%d .*retry_in=(\S+)`, bad.Partition))
			longer := func() bool { // than without a back-off that grows
				for _, line := range stuck.FindAllStringSubmatch(m.logs.String(), -1) {
					if wait, err := time.ParseDuration(line[1]); err == nil && wait > time.Second {
						return true
					}
				}
				return false
			}
			s.until("the partition to wait longer each time", func() bool {
				before := sum(t, "mailtally_events_applied_total", m)
				behind += s.elsewhere(bad.Partition, 1)
				s.until("another partition to go on", func() bool { return sum(t, "mailtally_events_applied_total", m) > before })
				return longer()
			})
			if strings.Contains(m.logs.String(), `msg="pausing`) {
				t.Errorf("the member paused: %s", m.logs)
			}
			s.until("all but the refused record and those behind it to be committed", func() bool { return s.uncommitted() == int64(1+behind) })
			fault.Remove()
			s.committed()
			m.stop()
			s.reconciled(m)
			if letters := s.deadLetters(); len(letters) != 1 || string(letters[0].Value) != "no JSON" {
				t.Errorf("dead letters: %v", letters)
			}
		})
	}
}
