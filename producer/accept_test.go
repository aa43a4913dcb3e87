package producer

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider"
)

func TestRecord(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	g := newGateway(t, gatewayOptions{now: func() time.Time { return now }})
	for _, prefix := range []string{"svix", "webhook", "SVIX", "Webhook"} {
		g.want(http.StatusOK, sentWebhook{id: "msg_" + prefix, at: now.Add(-time.Minute), prefix: prefix})
	}
	records := g.records(topic)
	if len(records) != 4 {
		t.Fatalf("%d records, want 4", len(records))
	}
	for i, prefix := range []string{"svix", "webhook", "SVIX", "Webhook"} {
		record := records[i] // one key, so one partition and its order
		if string(record.Key) != emailID {
			t.Errorf("key %q", record.Key)
		}
		if string(record.Value) != string(clicked) {
			t.Errorf("value %q", record.Value)
		}
		wantHeaders(t, record, "provider", "resend", "webhook-id", "msg_"+prefix,
			"webhook-timestamp", strconv.FormatInt(now.Add(-time.Minute).Unix(), 10), "received-at", "2026-11-24T11:00:00.123456789Z")
		// Kafka's timestamp is the time of writing: with the event's, retention could
		// delete a late event before it is read.
		if age := time.Since(record.Timestamp); age < -time.Minute || age > time.Minute {
			t.Errorf("timestamp %v", record.Timestamp)
		}
	}
	g.wantRecords(4, 0)
	g.wantCounts(map[result]int{accepted: 4})
}

// In whichever case its id is written, an email has one key, and so one partition.
func TestKeyIsCanonical(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	for _, id := range []string{emailID, strings.ToUpper(emailID)} {
		g.want(http.StatusOK, sentWebhook{body: fmt.Appendf(nil, `{"data":{"email_id":%q},"type":"email.opened"}`, id)})
	}
	records := g.records(topic)
	if len(records) != 2 {
		t.Errorf("%d records, want 2", len(records))
	}
	for _, record := range records {
		if string(record.Key) != emailID || record.Partition != records[0].Partition {
			t.Errorf("key %q in partition %d", record.Key, record.Partition)
		}
	}
}

// What a body contains is for the consumer to judge: the topic holds it exactly as it
// came.
func TestValueIsByteForByte(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	const head, tail = `{"type":"email.clicked","data":{"email_id":"` + emailID + `","click":{"link":"`, `"}}}`
	bodies := []string{
		head + "https://a.example/\x00\xff\xfe" + tail,
		head + `https://a.example/\u0000\ud800` + tail,
		" \r\n\t" + head + tail + "\r\n\r\n",
		head + strings.Repeat("x", 5000) + tail,
		head + `","link":"twice` + tail,
	}
	for _, size := range []int{firstRead - 1, firstRead, firstRead + 1, 3 * firstRead, provider.MaxValue - 1, provider.MaxValue} {
		bodies = append(bodies, string(bodyOfSize(size)))
	}
	var sent []string
	for _, chunked := range []bool{false, true} {
		for _, body := range bodies {
			a := g.post(sentWebhook{body: []byte(body), chunked: chunked})
			if a.status == http.StatusOK {
				sent = append(sent, body)
			} else {
				t.Errorf("%.60q of %d bytes: answered %d", body, len(body), a.status)
			}
		}
	}
	var got []string
	for _, record := range append(g.records(topic), g.records(deadLetterTopic)...) {
		got = append(got, string(record.Value))
	}
	slices.Sort(sent)
	slices.Sort(got)
	if !slices.Equal(got, sent) {
		t.Errorf("%d values, not the %d that were sent", len(got), len(sent))
	}
}

func TestRealBodies(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	bodies := realBodies(t)
	tracked := 0
	for name, body := range bodies {
		g.want(http.StatusOK, sentWebhook{id: name, body: body})
		if strings.HasPrefix(name, "email_") && !strings.HasPrefix(name, "email_received") {
			tracked++
		}
	}
	for _, record := range g.records(topic) {
		name := header(record, "webhook-id")
		if string(record.Value) != string(bodies[name]) {
			t.Errorf("%s: value %q", name, record.Value)
		}
		if _, err := uuid.ParseBytes(record.Key); err != nil {
			t.Errorf("%s: key %q", name, record.Key)
		}
	}
	g.wantRecords(tracked, 0)
	g.wantCounts(map[result]int{accepted: tracked, ignored: len(bodies) - tracked})
}

// What is not tracked is answered 200 and skipped: a refusal would make the provider
// disable the endpoint.
func TestUntrackedTypes(t *testing.T) {
	types := []string{"contact.created", "contact.updated", "domain.updated", "suppression.added", "topic.created", "email.received",
		"inbox.email.received", "email.some_future_type", "PrivateType", "", " email.sent", "EMAIL.SENT", "email.sent\x00", strings.Repeat("x", 100_000)}
	g := newGateway(t, gatewayOptions{})
	for _, typ := range types {
		g.want(http.StatusOK, sentWebhook{body: fmt.Appendf(nil, `{"type":%s,"data":{"email_id":%q}}`, quoteJSON(typ), emailID)})
	}
	g.wantRecords(0, 0)
	g.wantCounts(map[result]int{ignored: len(types)})
	if n := g.published(); n != 0 {
		t.Errorf("%d publications observed", n)
	}
}

// A webhook that is signed but cannot be read is kept with its reason. Sending it again
// would not fix it.
func TestUnreadableGoesToDeadLetters(t *testing.T) {
	const sent = `"type":"email.sent"`
	tests := []struct {
		name, body string
		reason     tracking.Reason
		detail     string // a part of it
	}{
		{"nothing", "", tracking.NotJSON, "not a JSON object"},
		{"no JSON", "alice.private@example.com", tracking.NotJSON, ""},
		{"array", "[" + string(clicked) + "]", tracking.NotJSON, "not a JSON object"},
		{"string", `"email.sent"`, tracking.NotJSON, "not a JSON object"},
		{"null", "null", tracking.NotJSON, "not a JSON object"},
		{"cut off", string(clicked[:300]), tracking.NotJSON, ""},
		{"two objects", "{}{}", tracking.NotJSON, "data after"},
		{"binary", "\x00\xff\x1f\x8b", tracking.NotJSON, ""},
		{"nested deeply", strings.Repeat(`{"data":`, 20_000), tracking.NotJSON, ""},
		{"no type", `{"data":{"email_id":"` + emailID + `"}}`, tracking.NoType, ""},
		{"type of another type", `{"type":1,"data":{"email_id":"` + emailID + `"}}`, tracking.NoType, ""},
		{"no data", `{` + sent + `}`, tracking.NoEmailID, ""},
		{"data of another type", `{` + sent + `,"data":["` + emailID + `"]}`, tracking.NoEmailID, ""},
		{"no email id", `{` + sent + `,"data":{}}`, tracking.NoEmailID, ""},
		{"bad email id", `{` + sent + `,"data":{"email_id":"PrivateID"}}`, tracking.BadEmailID, "PrivateID"},
		{"email id in braces", `{` + sent + `,"data":{"email_id":"{` + emailID + `}"}}`, tracking.BadEmailID, "{" + emailID + "}"},
		{"empty email id", `{` + sent + `,"data":{"email_id":""}}`, tracking.BadEmailID, ""},
	}
	now := time.Unix(1_800_000_000, 0)
	g := newGateway(t, gatewayOptions{now: func() time.Time { return now }})
	for _, test := range tests {
		g.want(http.StatusOK, sentWebhook{id: test.name, at: now, body: []byte(test.body)})
	}
	g.wantRecords(0, len(tests))
	g.wantCounts(map[result]int{malformed: len(tests)})

	letters := make(map[string]*kgo.Record)
	for _, record := range g.records(deadLetterTopic) {
		letters[header(record, "webhook-id")] = record
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			letter := letters[test.name]
			if letter == nil {
				t.Fatal("no dead letter")
			}
			if letter.Key != nil { // its email is not known
				t.Errorf("key %q", letter.Key)
			}
			if letter.Value == nil || string(letter.Value) != test.body { // nil would be a tombstone
				t.Errorf("value %q", letter.Value)
			}
			detail := header(letter, "detail")
			if !strings.Contains(detail, test.detail) || len(detail) > 1000 {
				t.Errorf("detail %q, want %q in it", detail, test.detail)
			}
			wantHeaders(t, letter, "provider", "resend", "webhook-id", test.name, "webhook-timestamp", "1800000000",
				"received-at", "2027-01-15T08:00:00Z", "reason", string(test.reason), "detail", detail)
		})
	}
}

// wantHeaders fails the test unless the record has exactly these headers, in this
// order.
func wantHeaders(t *testing.T, record *kgo.Record, want ...string) {
	t.Helper()
	var got []string
	for _, h := range record.Headers {
		got = append(got, h.Key, string(h.Value))
	}
	if !slices.Equal(got, want) {
		t.Errorf("headers %q, want %q", got, want)
	}
}

func header(record *kgo.Record, key string) string {
	values := make(map[string]string)
	for _, h := range record.Headers {
		values[h.Key] = string(h.Value)
	}
	if _, ok := values[key]; !ok {
		return fmt.Sprintf("none, only %v", slices.Sorted(maps.Keys(values)))
	}
	return values[key]
}

func quoteJSON(text string) string {
	return `"` + strings.ReplaceAll(text, "\x00", `\u0000`) + `"`
}
