package resend_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider/resend"
)

var received = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// Bodies as their owners published them (testdata/index.tsv says where): each gives the
// event, or the reason, listed here.
func TestDecode_PublishedBodies(t *testing.T) {
	t.Parallel()
	acme := uuid.MustParse("56761188-7520-42d8-8898-ff6fc54ce618")
	at := func(text string) time.Time {
		tm, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return tm
	}
	is := func(typ tracking.Type, occurredAt string) tracking.Event {
		return tracking.Event{EmailID: acme, EventID: "msg_1", Type: typ, OccurredAt: at(occurredAt)}
	}
	with := func(e tracking.Event, change func(*tracking.Event)) tracking.Event { change(&e); return e }
	click := func(e *tracking.Event) {
		e.Link, e.IP = "https://resend.com", netip.MustParseAddr("122.115.53.11")
		e.UserAgent = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.1 Safari/605.1.15"
	}
	bounce := func(e *tracking.Event) {
		e.Reason = "Permanent/Suppressed"
		e.Message = "The recipient's email address is on the suppression list because it has a recent history of producing hard bounces."
	}
	suppress := func(e *tracking.Event) {
		e.Reason = "OnAccountSuppressionList"
		e.Message = "Resend has suppressed sending to this address because it is on the account-level suppression list. This does not count toward your bounce rate metric"
	}
	events := map[string]tracking.Event{
		"email_bounced-1":          with(is(tracking.Bounced, "2024-11-22T23:41:12.126Z"), bounce),
		"email_bounced-4":          with(is(tracking.Bounced, "2026-11-22T23:41:12.126Z"), bounce),
		"email_bounced-5":          with(is(tracking.Bounced, "2026-11-22T23:41:12.126Z"), bounce),
		"email_clicked-1":          with(is(tracking.Clicked, "2024-11-24T05:00:57.163Z"), click),
		"email_clicked-3":          with(is(tracking.Clicked, "2026-11-24T05:00:57.163Z"), click),
		"email_complained-1":       is(tracking.Complained, "2024-02-22T23:41:12.126Z"),
		"email_complained-3":       is(tracking.Complained, "2026-02-22T23:41:12.126Z"),
		"email_delivered-1":        is(tracking.Delivered, "2024-02-22T23:41:12.126Z"),
		"email_delivered-3":        is(tracking.Delivered, "2026-02-22T23:41:12.126Z"),
		"email_delivery_delayed-1": is(tracking.DeliveryDelayed, "2024-02-22T23:41:12.126Z"),
		"email_delivery_delayed-3": is(tracking.DeliveryDelayed, "2026-02-22T23:41:12.126Z"),
		"email_failed-1":           with(is(tracking.Failed, "2024-11-22T23:41:12.126Z"), func(e *tracking.Event) { e.Reason = "reached_daily_quota" }),
		"email_failed-2": with(is(tracking.Failed, "2026-07-09T18:23:37.867Z"), func(e *tracking.Event) {
			e.EmailID, e.Reason = uuid.MustParse("c4bd0130-17f1-4e49-90bc-856308df9bb5"), "domain_not_verified"
		}),
		"email_opened-1": is(tracking.Opened, "2024-02-22T23:41:12.126Z"),
		"email_opened-2": with(is(tracking.Opened, "2024-11-22T23:41:12.126Z"), func(e *tracking.Event) {
			e.IP, e.UserAgent = netip.MustParseAddr("1.2.3.4"), "Mozilla/5.0"
		}),
		"email_opened-4":     is(tracking.Opened, "2026-02-22T23:41:12.126Z"),
		"email_scheduled-1":  is(tracking.Scheduled, "2024-02-22T23:41:12.126Z"),
		"email_scheduled-2":  is(tracking.Scheduled, "2026-02-22T23:41:12.126Z"),
		"email_sent-1":       is(tracking.Sent, "2024-02-22T23:41:12.126Z"),
		"email_sent-4":       is(tracking.Sent, "2026-02-22T23:41:12.126Z"),
		"email_suppressed-1": with(is(tracking.Suppressed, "2024-11-22T23:41:12.126Z"), suppress),
		"email_suppressed-2": with(is(tracking.Suppressed, "2024-11-22T23:41:12.126Z"), func(e *tracking.Event) {
			e.Reason, e.Message = "OnAccountSuppressionList", "recipient is on the account suppression list"
		}),
		"email_suppressed-3": with(is(tracking.Suppressed, "2026-11-22T23:41:12.126Z"), suppress),
	}
	untracked := "contact_created-1 contact_created-2 contact_deleted-1 contact_topics_updated-1 contact_updated-1 " +
		"domain_created-1 domain_deleted-1 domain_updated-1 email_received-1 email_received-2 email_received-3 " +
		"suppression_added-1 suppression_removed-1"

	bodies := publishedBodies(t)
	if want := len(events) + len(strings.Fields(untracked)); len(bodies) != want {
		t.Fatalf("%d bodies in testdata, %d expectations", len(bodies), want)
	}
	for name, body := range bodies {
		got, err := decode("msg_1", body)
		if want, tracked := events[name]; tracked {
			if err != nil || got != want {
				t.Errorf("%s: error %v\n got %+v\nwant %+v", name, err, got, want)
			}
			continue
		}
		if !strings.Contains(untracked, name) || reasonOf(err) != tracking.Untracked {
			t.Errorf("%s: error %v, want %s", name, err, tracking.Untracked)
		}
	}
}

func decode(eventID string, body []byte) (tracking.Event, error) {
	return resend.Provider{}.Decode(&tracking.Record{EventID: eventID, Value: body}, received)
}

func publishedBodies(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no bodies in testdata: %v", err)
	}
	bodies := make(map[string][]byte)
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bodies[strings.TrimSuffix(filepath.Base(path), ".json")] = body
	}
	return bodies
}

func reasonOf(err error) tracking.Reason {
	var drop *tracking.DropError
	if !errors.As(err, &drop) {
		return ""
	}
	return drop.Reason
}

const emailID = "56761188-7520-42d8-8898-ff6fc54ce618"

func TestDecode_Dropped(t *testing.T) {
	t.Parallel()
	body := func(typ, createdAt, id string) string {
		return `{"type":"` + typ + `","created_at":"` + createdAt + `","data":{"email_id":"` + id + `"}}`
	}
	good := body("email.opened", "2026-11-22T23:41:12Z", emailID)
	for _, test := range []struct {
		name, body string
		want       tracking.Reason
	}{
		{"nothing", ``, tracking.NotJSON},
		{"no JSON", `hello`, tracking.NotJSON},
		{"an array", `[]`, tracking.NotJSON},
		{"null", `null`, tracking.NotJSON},
		{"cut off", good[:len(good)-1], tracking.NotJSON},
		{"more behind it", good + `{}`, tracking.NotJSON},
		{"junk behind it", good + `x`, tracking.NotJSON},
		{"nested without end", `{"data":` + strings.Repeat("[", 200_000), tracking.NotJSON},
		{"no type", `{"created_at":"2026-11-22T23:41:12Z","data":{"email_id":"` + emailID + `"}}`, tracking.NoType},
		{"a type that is no string", `{"type":7,"data":{"email_id":"` + emailID + `"}}`, tracking.NoType},
		{"inbound mail", body("email.received", "2026-11-22T23:41:12Z", emailID), tracking.Untracked},
		{"an inbox", body("inbox.email.received", "2026-11-22T23:41:12Z", emailID), tracking.Untracked},
		{"a type to come", body("email.teleported", "2026-11-22T23:41:12Z", emailID), tracking.Untracked},
		{"no data", `{"type":"email.opened","created_at":"2026-11-22T23:41:12Z"}`, tracking.NoEmailID},
		{"data that is no object", `{"type":"email.opened","data":[]}`, tracking.NoEmailID},
		{"an email id that is no string", `{"type":"email.opened","data":{"email_id":5}}`, tracking.NoEmailID},
		{"an email id that is no UUID", body("email.opened", "2026-11-22T23:41:12Z", "hello"), tracking.BadEmailID},
		{"an email id in any two characters", body("email.opened", "2026-11-22T23:41:12Z", "x"+emailID+"y"), tracking.BadEmailID},
		{"an email id in spaces", body("email.opened", "2026-11-22T23:41:12Z", " "+emailID+" "), tracking.BadEmailID},
		{"an email id in NULs", body("email.opened", "2026-11-22T23:41:12Z", `\u0000`+emailID+`\u0000`), tracking.BadEmailID},
		{"an email id in braces", body("email.opened", "2026-11-22T23:41:12Z", "{"+emailID+"}"), tracking.BadEmailID},
		{"an email id as a URN", body("email.opened", "2026-11-22T23:41:12Z", "urn:uuid:"+emailID), tracking.BadEmailID},
		{"an email id without hyphens", body("email.opened", "2026-11-22T23:41:12Z", strings.ReplaceAll(emailID, "-", "")), tracking.BadEmailID},
		{"an email id and a line feed", body("email.opened", "2026-11-22T23:41:12Z", emailID+`\n`), tracking.BadEmailID},
		{"an email id with another letter", body("email.opened", "2026-11-22T23:41:12Z", "g"+emailID[1:]), tracking.BadEmailID},
		{"an empty email id", body("email.opened", "2026-11-22T23:41:12Z", ""), tracking.BadEmailID},
		{"no time", `{"type":"email.opened","data":{"email_id":"` + emailID + `"}}`, tracking.BadTime},
		{"an unreadable time", body("email.opened", "yesterday", emailID), tracking.BadTime},
		{"year 1", body("email.opened", "0001-01-01T00:00:00Z", emailID), tracking.TimeOutOfRange},
		{"year 9999", body("email.opened", "9999-12-31T23:59:59Z", emailID), tracking.TimeOutOfRange},
		{"just before 2000", body("email.opened", "1999-12-31T23:59:59.999999Z", emailID), tracking.TimeOutOfRange},
		{"more than a day ahead", body("email.opened", "2026-11-24T12:00:00.000001Z", emailID), tracking.TimeOutOfRange},
		{"only the email's time", `{"type":"email.opened","data":{"email_id":"` + emailID + `","created_at":"2026-11-22T23:41:12Z"}}`, tracking.BadTime},
		{"another's time", `{"type":"email.opened","data":{"email_id":"` + emailID + `","click":{"timestamp":"2026-11-22T23:41:12Z"}}}`, tracking.BadTime},
		{"year 9999 everywhere", `{"type":"email.clicked","created_at":"9999-01-01T00:00:00Z","data":{"email_id":"` + emailID + `","click":{"timestamp":"9999-01-01T00:00:00Z"}}}`, tracking.TimeOutOfRange},
		{"an offset that no zone has", body("email.opened", "2026-11-22T23:41:12+24:60", emailID), tracking.BadTime},
		{"a time without a zone", body("email.opened", "2026-11-22T23:41:12", emailID), tracking.BadTime},
		{"a second data without an email id", good[:len(good)-1] + `,"data":{}}`, tracking.NoEmailID},
		{"names in another case", strings.NewReplacer("type", "Type", "data", "DATA").Replace(good), tracking.NoType},
		{"two byte order marks", "\ufeff\ufeff" + good, tracking.NotJSON},
		{"a byte order mark alone", "\ufeff", tracking.NotJSON},
		{"half a byte order mark", "\xef\xbb" + good, tracking.NotJSON},
	} {
		if _, err := decode("msg_1", []byte(test.body)); reasonOf(err) != test.want {
			t.Errorf("%s: error %v, want %s", test.name, err, test.want)
		}
	}
	if _, err := decode("", []byte(good)); reasonOf(err) != tracking.NoEventID {
		t.Errorf("without a webhook id: error %v", err)
	}
}

// What can be counted is counted: odd content never drops an event.
func TestDecode_Mended(t *testing.T) {
	t.Parallel()
	decode := func(body string) tracking.Event {
		t.Helper()
		e, err := decode("msg_1", []byte(body))
		if err != nil {
			t.Fatalf("%v: %s", err, body[:min(len(body), 200)])
		}
		return e
	}
	click := func(fields string) tracking.Event {
		t.Helper()
		return decode(`{"created_at":"2026-11-22T23:41:12Z","data":{"email_id":"` + emailID + `","click":{` + fields + `}},"type":"email.clicked"}`)
	}
	for _, test := range []struct{ name, got, want string }{
		{"NUL", click(`"link":"https://a/\u0000b"`).Link, "https://a/\uFFFDb"},
		{"invalid UTF-8", click("\"link\":\"https://a/\xff\"").Link, "https://a/\uFFFD"},
		{"half a surrogate pair", click(`"link":"https://a/\ud800"`).Link, "https://a/\uFFFD"},
		{"an over-long link", click(`"link":"` + strings.Repeat("x", 9000) + `"`).Link, strings.Repeat("x", tracking.MaxLink)},
		{"a character across the limit", click(`"link":"` + strings.Repeat("x", tracking.MaxLink-1) + `é"`).Link, strings.Repeat("x", tracking.MaxLink-1)},
		{"an over-long user agent", click(`"userAgent":"` + strings.Repeat("é", 600) + `"`).UserAgent, strings.Repeat("é", tracking.MaxUserAgent/2)},
		{"an unreadable IP", click(`"ipAddress":"somewhere"`).IP.String(), "invalid IP"},
		{"an IP with a zone", click(`"ipAddress":"fe80::1%eth0"`).IP.String(), "fe80::1"},
		{"a click time of 1970", click(`"timestamp":"1970-01-01T00:00:00Z"`).OccurredAt.String(), "2026-11-22 23:41:12 +0000 UTC"},
		{"a click time of year 1", click(`"timestamp":"0001-01-01T00:00:00Z"`).OccurredAt.String(), "2026-11-22 23:41:12 +0000 UTC"},
		{"a click time to come", click(`"timestamp":"2026-11-24T12:00:00.000001Z"`).OccurredAt.String(), "2026-11-22 23:41:12 +0000 UTC"},
		{"a click time as a number", click(`"timestamp":1795390871`).OccurredAt.String(), "2026-11-22 23:41:11 +0000 UTC"},
		{"a click time of zero", click(`"timestamp":0`).OccurredAt.String(), "2026-11-22 23:41:12 +0000 UTC"},
		{"an open time of 1970", decode(`{"type":"email.opened","created_at":"2026-11-22T23:41:12Z","data":{"email_id":"` + emailID + `","open":{"timestamp":"1970-01-01T00:00:00Z"}}}`).OccurredAt.String(), "2026-11-22 23:41:12 +0000 UTC"},
		{"created_at as seconds", decode(`{"type":"email.opened","created_at":1795390872,"data":{"email_id":"` + emailID + `"}}`).OccurredAt.String(), "2026-11-22 23:41:12 +0000 UTC"},
		{"created_at as milliseconds", decode(`{"type":"email.opened","created_at":1795390872126,"data":{"email_id":"` + emailID + `"}}`).OccurredAt.String(), "2026-11-22 23:41:12.126 +0000 UTC"},
		{"created_at with a space and +0000", decode(`{"type":"email.opened","created_at":"2026-11-22 23:41:12+0000","data":{"email_id":"` + emailID + `"}}`).OccurredAt.String(), "2026-11-22 23:41:12 +0000 UTC"},
		{"an unreadable click time", click(`"timestamp":"soon"`).OccurredAt.String(), "2026-11-22 23:41:12 +0000 UTC"},
		{"a link that is no string", click(`"link":{"href":1}`).Link, ""},
		{"a name written with escapes", click(`"l\u0069nk":"https://a"`).Link, "https://a"},
		{"a name that is repeated", click(`"link":"a","link":"b"`).Link, "b"},
		{"a click that is repeated", click(`"link":"a"},"click":{"userAgent":"b"`).Link, ""},
		{"data that is repeated", decode(`{"type":"email.clicked","created_at":"2026-11-22T23:41:12Z","data":{"email_id":"` + uuid.NewString() + `","click":{"link":"a"}},"data":{"email_id":"` + emailID + `"}}`).Link, ""},
		{"data that is repeated, and its email id", decode(`{"type":"email.clicked","created_at":"2026-11-22T23:41:12Z","data":{"email_id":"` + uuid.NewString() + `"},"data":{"email_id":"` + emailID + `"}}`).EmailID.String(), emailID},
		{"data that is repeated, and its time", decode(`{"type":"email.clicked","created_at":"2026-11-22T23:41:12Z","data":{"click":{"timestamp":"2026-11-22T23:41:10Z"}},"data":{"email_id":"` + emailID + `"}}`).OccurredAt.String(), "2026-11-22 23:41:12 +0000 UTC"},
		{"data that is repeated, then null", decode(`{"type":"email.sent","created_at":"2026-11-22T23:41:12Z","data":{"email_id":"` + emailID + `"},"data":null}`).EmailID.String(), emailID},
		{"a name in another case behind it", decode(`{"type":"email.sent","Type":"email.opened","created_at":"2026-11-22T23:41:12Z","data":{"email_id":"` + emailID + `","EMAIL_ID":"x"},"Data":{}}`).Type.String(), "sent"},
		{"a name in another case before it", click(`"Link":"b","link":"a"`).Link, "a"},
		{"a byte order mark", decode("\ufeff" + `{"type":"email.sent","created_at":"2026-11-22T23:41:12Z","data":{"email_id":"` + emailID + `"}}`).Type.String(), "sent"},
		{"another's trouble", decode(`{"type":"email.bounced","created_at":"2026-11-22T23:41:11Z","data":{"email_id":"` + emailID + `","bounce":{"message":"no such user"},"failed":{"message":"x"},"suppressed":{}}}`).Message, "no such user"},
		{"a click that is no object", decode(`{"type":"email.clicked","created_at":"2026-11-22T23:41:12Z","data":{"email_id":"` + emailID + `","click":"x"}}`).Link, ""},
		{"an upper-case id", decode(`{"type":"email.sent","created_at":"2026-11-22T23:41:12Z","data":{"email_id":"` + strings.ToUpper(emailID) + `"}}`).EmailID.String(), emailID},
		{"tags as an array", decode(`{"type":"email.sent","created_at":"2026-11-22T23:41:12Z","data":{"tags":[{"name":"a","value":"b"}],"email_id":"` + emailID + `"}}`).Type.String(), "sent"},
		{"microseconds and an offset", decode(`{"type":"email.sent","created_at":"2026-11-22T23:41:11.894719+02:00","data":{"email_id":"` + emailID + `"}}`).OccurredAt.String(), "2026-11-22 21:41:11.894719 +0000 UTC"},
		{"nanoseconds", decode(`{"type":"email.sent","created_at":"2026-11-22T23:41:11.123456789Z","data":{"email_id":"` + emailID + `"}}`).OccurredAt.String(), "2026-11-22 23:41:11.123456 +0000 UTC"},
		{"an older bounce", decode(`{"type":"email.bounced","created_at":"2026-11-22T23:41:11Z","data":{"email_id":"` + emailID + `","bounce":{"message":"no such user"}}}`).Message, "no such user"},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %.60q, want %.60q", test.name, test.got, test.want)
		}
	}
}

// Producer and consumer read the same from a body.
func FuzzDecode(f *testing.F) {
	for _, body := range publishedBodies(f) {
		f.Add("msg_1", body)
		var compact bytes.Buffer
		if err := json.Compact(&compact, body); err != nil {
			f.Fatal(err)
		}
		f.Add("msg_\x00\xff", append([]byte("\ufeff"), compact.Bytes()...))
	}
	f.Fuzz(func(t *testing.T, eventID string, body []byte) {
		event, err := decode(eventID, body)
		routed, routeErr := resend.Route(body)

		if notJSON := reasonOf(err) == tracking.NotJSON; notJSON != !isObject(body) {
			t.Fatalf("not JSON is %v, encoding/json says it is an object: %v", notJSON, isObject(body))
		}
		if err != nil {
			if reasonOf(err) == "" {
				t.Fatalf("error without a reason: %v", err)
			}
			return
		}
		if routeErr != nil || routed != event.EmailID {
			t.Fatalf("routed to %v (%v), decoded as %v", routed, routeErr, event.EmailID)
		}
		for _, text := range []string{event.Link, event.UserAgent, event.Reason, event.Message} {
			if !utf8.ValidString(text) || strings.Contains(text, "\x00") || len(text) > tracking.MaxLink {
				t.Fatalf("text that PostgreSQL cannot hold: %q", text)
			}
		}
		if at := event.OccurredAt; at.Year() < 2000 || at.After(received.Add(24*time.Hour)) || at.Nanosecond()%1000 != 0 {
			t.Fatalf("event time %v", at)
		}
	})
}

func isObject(body []byte) bool {
	// encoding/json gives up at a depth of 10,000, and so does jx.
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	return json.Valid(body) && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{"))
}

// BenchmarkDecode decodes the published outbound bodies, made compact as
// the provider sends them, in turn.
func BenchmarkDecode(b *testing.B) {
	var bodies [][]byte
	size := 0
	for _, body := range publishedBodies(b) {
		if _, err := decode("msg_1", body); err != nil {
			continue
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, body); err != nil {
			b.Fatal(err)
		}
		bodies = append(bodies, compact.Bytes())
		size += compact.Len()
	}
	b.SetBytes(int64(size / len(bodies)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := decode("msg_2cT8aLq9FZ3vJwQnKxYb7RmPdEs", bodies[i%len(bodies)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bodies/s")
}
