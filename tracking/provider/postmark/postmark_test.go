package postmark_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider"
	"github.com/mailtally/mailtally/tracking/provider/postmark"
)

var received = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const messageID = "883953f4-6105-42a2-a16a-77a8eac79483"

func decode(body []byte) (tracking.Event, error) {
	return postmark.Provider{}.Decode(&tracking.Record{Value: body}, received)
}

// Bodies as their owners published them (testdata/index.tsv says where): each gives the
// event, or the reason, listed here.
func TestDecode_PublishedBodies(t *testing.T) {
	t.Parallel()
	at := func(text string) time.Time {
		tm, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return tm
	}
	official := tracking.Event{EmailID: uuid.MustParse(messageID), OccurredAt: at("2025-04-05T16:33:54.907025Z")}
	others := tracking.Event{
		EmailID:         uuid.MustParse("aad830b5-9f64-8dea-a1dc-d94b2240ec05"), // sha256sum of "postmark", NUL and the id
		ProviderEmailID: "20130503192659.13651.20287@mg.example.com",
		OccurredAt:      at("2019-11-05T16:33:54.907025Z"),
	}
	is := func(e tracking.Event, typ tracking.Type, id string, change func(*tracking.Event)) tracking.Event {
		e.Type, e.EventID = typ, id
		change(&e)
		return e
	}
	as := func(reason, message string) func(*tracking.Event) {
		return func(e *tracking.Event) { e.Reason, e.Message = reason, message }
	}
	seen := func(link, ip, agent string) func(*tracking.Event) {
		return func(e *tracking.Event) { e.Link, e.IP, e.UserAgent = link, netip.MustParseAddr(ip), agent }
	}
	const chrome = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_7_5) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/35.0.1916.153 Safari/537.36"
	events := map[string]tracking.Event{
		"bounce-10":        is(official, tracking.Bounced, "Bounce/42", as("HardBounce", "smtp;550 5.1.1 The email account that you tried to reach does not exist.")),
		"bounce-11":        is(others, tracking.Bounced, "Bounce/42", as("HardBounce", "Test bounce details")),
		"bounce-12":        is(others, tracking.Bounced, "Bounce/42", as("SoftBounce", "Test bounce details")),
		"click-10":         is(official, tracking.Clicked, "", seen("https://yourdomain.com/pricing", "203.0.113.1", "Mozilla/5.0 ...")),
		"click-11":         is(others, tracking.Clicked, "", seen("http://example.com/signup", "8.8.8.8", chrome)),
		"delivery-10":      is(official, tracking.Delivered, "", func(*tracking.Event) {}),
		"open-10":          is(official, tracking.Opened, "", seen("", "203.0.113.1", "Mozilla/5.0 ...")),
		"open-11":          is(others, tracking.Opened, "", seen("", "203.0.113.8", chrome)),
		"spamcomplaint-10": is(official, tracking.Complained, "SpamComplaint/42", as("SpamComplaint", "")),
		"spamcomplaint-11": is(others, tracking.Complained, "SpamComplaint/42", as("SpamComplaint", "Test spam complaint details")),
	}
	click := events["click-11"]
	click.OccurredAt = at("2017-10-25T15:21:11.906561Z")
	events["click-11"] = click

	bodies := publishedBodies(t)
	if want := len(events) + 4; len(bodies) != want {
		t.Fatalf("%d bodies in testdata, %d expectations", len(bodies), want)
	}
	keys := make(map[string]string)
	for name, body := range bodies {
		got, err := decode(body)
		want, tracked := events[name]
		if !tracked {
			if !strings.HasPrefix(name, "subscriptionchange") || reasonOf(err) != tracking.Untracked {
				t.Errorf("%s: error %v, want %s", name, err, tracking.Untracked)
			}
			continue
		}
		if want.EventID == "" { // a natural key
			want.EventID = got.EventID
			if other, taken := keys[got.EventID]; taken || len(got.EventID) != 32 {
				t.Errorf("%s has the key %q, and so has %s", name, got.EventID, other)
			}
			keys[got.EventID] = name
		}
		if err != nil || got != want {
			t.Errorf("%s: error %v\n got %+v\nwant %+v", name, err, got, want)
		}
	}
}

func publishedBodies(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/*-[0-9]*.json")
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

// What an event id is made of must never change: a replay would count twice.
func TestDecode_EventIDs(t *testing.T) {
	t.Parallel()
	open := func(changes ...string) string {
		body := `{"RecordType":"Open","MessageID":"` + messageID + `","Recipient":"john@example.com","ReceivedAt":"2025-04-05T16:33:54.9070259Z","UserAgent":"a"}`
		return strings.NewReplacer(changes...).Replace(body)
	}
	id := func(body string) string {
		t.Helper()
		e, err := decode([]byte(body))
		if err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		return e.EventID
	}
	first := id(open())
	if want := "0b8a2ab46aabd1fd88befe8baefedba0"; first != want {
		t.Errorf("the id of an open is %q, want %q", first, want)
	}
	if again := id(open(`"UserAgent":"a"`, `"UserAgent":"a","Added":1`)); again != first {
		t.Errorf("with an additional member it is %q", again)
	}
	for _, other := range []string{
		open("Open", "Delivery", "ReceivedAt", "DeliveredAt"), open("9070259", "9070258"), open("john", "jane"),
		open("Open", "Click"), open("Open", "Click", `"UserAgent"`, `"OriginalLink":"https://a","UserAgent"`), open("Open", "Click", `"UserAgent"`, `"OriginalLink":"https://b","UserAgent"`),
	} {
		if id(other) == first {
			t.Errorf("the same id: %s", other)
		}
	}
	for _, same := range []string{
		open(`"ReceivedAt"`, `"DeliveredAt":"2025-04-05T16:30:00Z","ReceivedAt"`), open(`"UserAgent"`, `"BouncedAt":1743870834,"UserAgent"`),
		open(`"UserAgent":"a"`, `"Email":null,"Recipient":7`), open(`"Recipient"`, `"Email"`), "\ufeff" + open(),
	} {
		if got := id(same); got != first {
			t.Errorf("the id is %q, want %q: %s", got, first, same)
		}
	}
	for _, test := range []struct{ body, typ, at string }{
		{open("Open", "Delivery", "ReceivedAt", "DeliveredAt"), "Delivery", "2025-04-05T16:33:54.9070259Z"},
		{open("Open", "SpamComplaint", "ReceivedAt", "BouncedAt"), "SpamComplaint", "2025-04-05T16:33:54.9070259Z"},
		{open("Open", "Delivery", `"UserAgent"`, `"DeliveredAt":"2025-04-05T16:33:54Z","UserAgent"`), "Delivery", "2025-04-05T16:33:54Z"},
		{open("Open", "SpamComplaint", `"UserAgent"`, `"BouncedAt":"2025-04-05T16:33:54Z","UserAgent"`), "SpamComplaint", "2025-04-05T16:33:54Z"},
		{open("ReceivedAt", "DeliveredAt"), "Open", "2025-04-05T16:33:54.9070259Z"},
		{open(`"2025-04-05T16:33:54.9070259Z"`, "1743870834"), "Open", "1743870834"},
		{open(`"2025-04-05T16:33:54.9070259Z"`, `"","BouncedAt":"2025-04-05T16:33:54Z"`), "Open", "2025-04-05T16:33:54Z"},
		// Which time is believed depends on when it was received, and so does not matter.
		{open("2025", "1970", `"UserAgent"`, `"BouncedAt":"2025-04-05T16:33:54Z","UserAgent"`), "Open", "1970-04-05T16:33:54.9070259Z"},
	} {
		want := provider.NaturalKey([]byte(test.typ), []byte(test.at), []byte("john@example.com"), nil)
		if got := id(test.body); got != want {
			t.Errorf("the id is %q, want that of %s at %s: %s", got, test.typ, test.at, test.body)
		}
	}
	bounce := `{"RecordType":"Bounce","Type":"HardBounce","MessageID":"` + messageID + `","BouncedAt":"2025-04-05T16:33:54Z","Email":"john@example.com","ID":%s}`
	for written, want := range map[string]string{"692560173": "Bounce/692560173", "9007199254740993": "Bounce/9007199254740993", `"42"`: "Bounce/42"} {
		if got := id(fmt.Sprintf(bounce, written)); got != want {
			t.Errorf("ID %s: %q, want %q", written, got, want)
		}
	}
	if got := id(open(`"UserAgent":"a"`, `"ID":7`)); got != first {
		t.Errorf("an open with an ID has the id %q", got)
	}
	if got := id(fmt.Sprintf(bounce, "null")); len(got) != 32 {
		t.Errorf("without an ID: %q, want a natural key", got)
	}
}

// Each type that Postmark names, and an unknown one.
func TestDecode_BounceTypes(t *testing.T) {
	t.Parallel()
	for types, want := range map[string]tracking.Type{
		"HardBounce SoftBounce Blocked BadEmailAddress DMARCPolicy VirusNotification": tracking.Bounced,
		"Transient DnsError":                   tracking.DeliveryDelayed,
		"SpamNotification SpamComplaint":       tracking.Complained,
		"ManuallyDeactivated Unconfirmed":      tracking.Suppressed,
		"SMTPApiError TemplateRenderingFailed": tracking.Failed,
		"Unsubscribe Subscribe ManualSuppression AutoResponder AddressChange ChallengeVerification OpenRelayTest Unknown SomeType": 0,
	} {
		for _, typ := range strings.Fields(types) {
			e, err := decode(fmt.Appendf(nil, `{"RecordType":"Bounce","Type":%q,"ID":1,"MessageID":%q,"BouncedAt":"2025-04-05T16:33:54Z"}`, typ, messageID))
			if e.Type != want || (want == 0) != (reasonOf(err) == tracking.Untracked) {
				t.Errorf("%s: %v, %v; want %v", typ, e.Type, err, want)
			}
		}
	}
}

func TestDecode_Dropped(t *testing.T) {
	t.Parallel()
	good := `{"RecordType":"Open","MessageID":"` + messageID + `","ReceivedAt":"2025-04-05T16:33:54Z"}`
	for _, test := range []struct {
		name, body string
		want       tracking.Reason
	}{
		{"nothing", ``, tracking.NotJSON},
		{"an array", `[` + good + `]`, tracking.NotJSON},
		{"cut off", good[:len(good)-1], tracking.NotJSON},
		{"no type", `{"MessageID":"` + messageID + `"}`, tracking.NoType},
		{"inbound mail", `{"FromFull":{"Email":"a@b"},"MessageID":"` + messageID + `"}`, tracking.Untracked},
		{"a bounce without a type", strings.Replace(good, "Open", "Bounce", 1), tracking.NoType},
		{"a bounce with a type that is no string", strings.Replace(good, `"Open"`, `"Bounce","Type":1`, 1), tracking.NoType},
		{"a bounce of a type to come", strings.Replace(good, `"Open"`, `"Bounce","Type":"Teleported"`, 1), tracking.Untracked},
		{"a type to come", strings.Replace(good, "Open", "Teleported", 1), tracking.Untracked},
		{"a type in lower case", strings.Replace(good, "Open", "open", 1), tracking.Untracked},
		{"no message id", `{"RecordType":"Open","ReceivedAt":"2025-04-05T16:33:54Z"}`, tracking.NoEmailID},
		{"an empty message id", strings.Replace(good, messageID, "", 1), tracking.NoEmailID},
		{"no time", `{"RecordType":"Open","MessageID":"` + messageID + `"}`, tracking.BadTime},
		{"an unreadable time", strings.Replace(good, "2025-04-05T16:33:54Z", "yesterday", 1), tracking.BadTime},
		{"year 1", strings.Replace(good, "2025", "0001", 1), tracking.TimeOutOfRange},
		{"year 9999", strings.Replace(good, "2025", "9999", 1), tracking.TimeOutOfRange},
		{"an offset that no zone has", strings.Replace(good, "54Z", "54+24:60", 1), tracking.BadTime},
		{"names in another case", strings.Replace(good, "RecordType", "recordtype", 1), tracking.NoType},
	} {
		if _, err := decode([]byte(test.body)); reasonOf(err) != test.want {
			t.Errorf("%s: error %v, want %s", test.name, err, test.want)
		}
	}
}

// What can be counted is counted: odd content never drops an event.
func TestDecode_Mended(t *testing.T) {
	t.Parallel()
	click := func(members string) tracking.Event {
		t.Helper()
		body := `{"RecordType":"Click","MessageID":"` + messageID + `","ReceivedAt":"2025-04-05T16:33:54Z",` + members + `}`
		e, err := decode([]byte(body))
		if err != nil {
			t.Fatalf("%v: %.200s", err, body)
		}
		return e
	}
	for _, test := range []struct{ name, got, want string }{
		{"NUL", click(`"OriginalLink":"https://a/\u0000b"`).Link, "https://a/\uFFFDb"},
		{"invalid UTF-8", click("\"OriginalLink\":\"https://a/\xff\"").Link, "https://a/\uFFFD"},
		{"an over-long link", click(`"OriginalLink":"` + strings.Repeat("x", 9000) + `"`).Link, strings.Repeat("x", tracking.MaxLink)},
		{"an unreadable IP", click(`"Geo":{"IP":"somewhere"}`).IP.String(), "invalid IP"},
		{"Geo that is no object", click(`"Geo":null`).IP.String(), "invalid IP"},
		{"Geo that is repeated", click(`"Geo":{"IP":"8.8.8.8"},"Geo":{}`).IP.String(), "invalid IP"},
		{"a name in another case", click(`"receivedat":"2026-11-22T23:41:12Z","MESSAGEID":"x"`).OccurredAt.String(), "2025-04-05 16:33:54 +0000 UTC"},
		{"another time of 1970", click(`"DeliveredAt":"1970-01-01T00:00:00Z"`).OccurredAt.String(), "2025-04-05 16:33:54 +0000 UTC"},
		{"another time of year 1", click(`"BouncedAt":"0001-01-01T00:00:00Z"`).OccurredAt.String(), "2025-04-05 16:33:54 +0000 UTC"},
		{"another time to come", click(`"DeliveredAt":"2026-11-24T12:00:00.000001Z"`).OccurredAt.String(), "2025-04-05 16:33:54 +0000 UTC"},
		{"another time that is unreadable", click(`"DeliveredAt":"soon"`).OccurredAt.String(), "2025-04-05 16:33:54 +0000 UTC"},
		{"a number beside the time", click(`"DeliveredAt":1795390872`).OccurredAt.String(), "2025-04-05 16:33:54 +0000 UTC"},
		{"a space and +0000", click(`"ReceivedAt":"2014-01-14 07:25:01.4178645+0000"`).OccurredAt.String(), "2014-01-14 07:25:01.417864 +0000 UTC"},
		{"an offset", click(`"ReceivedAt":"2014-01-14T07:25:01.4178645-05:00"`).OccurredAt.String(), "2014-01-14 12:25:01.417864 +0000 UTC"},
		{"an upper-case id", click(`"MessageID":"` + strings.ToUpper(messageID) + `"`).EmailID.String(), messageID},
		{"an id that is no UUID", click(`"MessageID":"a\u0000b"`).ProviderEmailID, "a\uFFFDb"},
		{"a UUID in any two characters", click(`"MessageID":"x` + messageID + `y"`).ProviderEmailID, "x" + messageID + "y"},
		{"a UUID in braces", click(`"MessageID":"{` + messageID + `}"`).ProviderEmailID, "{" + messageID + "}"},
		{"an over-long id", click(`"MessageID":"` + strings.Repeat("x", 9000) + `"`).ProviderEmailID, strings.Repeat("x", tracking.MaxProviderEmailID)},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %.60q, want %.60q", test.name, test.got, test.want)
		}
	}
}

// Times that are numbers, for want of a string.
func TestDecode_NumericTime(t *testing.T) {
	t.Parallel()
	for written, want := range map[string]string{
		`"ReceivedAt":1743870834`:                       "2025-04-05 16:33:54 +0000 UTC",
		`"ReceivedAt":1743870834907.0259`:               "2025-04-05 16:33:54.907025 +0000 UTC",
		`"DeliveredAt":"soon","ReceivedAt":1743870834`:  "2025-04-05 16:33:54 +0000 UTC",
		`"ReceivedAt":0,"ReceivedAt":"1743870834"`:      "2025-04-05 16:33:54 +0000 UTC",
		`"BouncedAt":1743870834,"ReceivedAt":{"at":[]}`: "2025-04-05 16:33:54 +0000 UTC",
	} {
		e, err := decode([]byte(`{"RecordType":"Open","MessageID":"` + messageID + `",` + written + `}`))
		if got := e.OccurredAt.String(); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", written, got, err, want)
		}
	}
}

// RFC 7617's own examples, and near misses.
func TestAdmit(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/auth-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Name, User, Password string
			Headers              map[string]string
			Valid                bool
		}
	}
	if err := json.Unmarshal(text, &file); err != nil || len(file.Vectors) == 0 {
		t.Fatalf("%d vectors, %v", len(file.Vectors), err)
	}
	for _, v := range file.Vectors {
		admitted(t, v.Name, v.User+":"+v.Password, v.Headers["Authorization"], v.Valid)
	}
	basic := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	for _, test := range []struct {
		name, accepted, sent string
		valid                bool
	}{
		{"the first of two", "me:old, me:new", basic("me:old"), true},
		{"the second of two", "me:old, me:new", basic("me:new"), true},
		{"both at once", "me:old,me:new", basic("me:old,me:new"), false},
		{"a password with a colon", "me:a:b", basic("me:a:b"), true},
		{"cut at the last colon", "me:a:b", basic("me:a"), false},
		{"the user alone", "me:secret", basic("me"), false},
		{"an empty password", "me:secret", basic("me:"), false},
		{"white space", "me:secret", basic("me:secret "), false},
		{"another case", "me:secret", basic("me:Secret"), false},
		{"nothing", "me:secret", "Basic ", false},
		{"no base64", "me:secret", "Basic me:secret", false},
		{"another scheme", "me:secret", "Bearer " + base64.StdEncoding.EncodeToString([]byte("me:secret")), false},
		{"no space", "me:secret", "Basic" + base64.StdEncoding.EncodeToString([]byte("me:secret")), false},
	} {
		admitted(t, test.name, test.accepted, test.sent, test.valid)
	}
}

func admitted(t *testing.T, name, accepted, authorization string, want bool) {
	t.Helper()
	c, err := provider.ParseCredentials(accepted, 1)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	if authorization != "" {
		h.Set("Authorization", authorization)
	}
	err = c.Admit(h)
	var refusal *provider.Refusal
	if want && err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if !want && (!errors.As(err, &refusal) || refusal.Status != http.StatusUnauthorized || !strings.HasPrefix(refusal.Challenge, "Basic ")) {
		t.Errorf("%s: %v, want 401 with a challenge", name, err)
	}
}

// A password that is quickly guessed is refused, and the error says what is wanted.
func TestNew_WeakPasswords(t *testing.T) {
	t.Parallel()
	for _, password := range []string{"+", "secret", "changeme", "123456789012345", "ééééééé", "xxxxxxxxxxxxxxxxxxxx", "1212121212121212", "\"a-secret-of-our-own\"", "<a-secret-of-our-own>"} {
		e, err := postmark.New("me:" + password)
		if err == nil || e != nil {
			t.Errorf("%q is accepted", password)
		} else if !strings.Contains(err.Error(), "entry 1") || strings.Contains(err.Error(), password) {
			t.Errorf("%q: %v", password, err)
		}
	}
	for _, password := range []string{"1234567890123456", "a-secret-of-our-own", "a:secret:of:our:own", "ein Geheimnis über 16"} {
		e, err := postmark.New("me:" + password)
		if err != nil {
			t.Errorf("%q: %v", password, err)
			continue
		}
		h := http.Header{}
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("me:"+password)))
		if err := e.Admit(h, received); err != nil {
			t.Errorf("%q: %v", password, err)
		}
		if err := e.Admit(http.Header{}, received); err == nil {
			t.Error("nothing is enough")
		}
	}
}

// Nothing prints credentials, and no error quotes them.
func TestCredentialsAreHidden(t *testing.T) {
	t.Parallel()
	e, err := postmark.New("me:s3cr3t-s3cr3t-s3cr3t")
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if text := fmt.Sprintf(verb, e); strings.Contains(text, "s3cr3t") || strings.Contains(text, fmt.Sprintf("%x", "s3cr3t")) {
			t.Errorf("%s prints %q", verb, text)
		}
	}
	for _, list := range []string{"", "s3cr3t", ":s3cr3t", "s3cr3t:", "me:s3cr3t", "me:s3cr3t-s3cr3t-s3cr3t,", "me:s3cr3t-s3cr3t-s3cr3t\x00", "me:s3cr3t-s3cr3t-s3cr3t,s3cr3t"} {
		if _, err := postmark.New(list); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%q: error %v", list, err)
		}
	}
}

// An included message is cut only if a record could not hold it, and then everything
// else stays as it was.
func TestOpen_Content(t *testing.T) {
	t.Parallel()
	e, err := postmark.New("me:a-secret-of-our-own")
	if err != nil {
		t.Fatal(err)
	}
	const head, tail = `{"RecordType":"Bounce", "ID" : 42, "Type":"HardBounce","Content":`, `,"MessageID":"` + messageID + `","BouncedAt":"2025-04-05T16:33:54Z" }` + "\r\n"
	fill := func(n int) string { return `"\r\n` + strings.Repeat("x", n-len(head)-len(tail)-6) + `"` }
	for _, test := range []struct{ name, body, want string }{
		{"as large as a record may be", head + fill(provider.MaxValue) + tail, head + fill(provider.MaxValue) + tail},
		{"a byte larger", head + fill(provider.MaxValue+1) + tail, head + `""` + tail},
		{"8 MiB", head + fill(8<<20) + tail, head + `""` + tail},
		{"no string", head + "[" + fill(provider.MaxValue+1) + "]" + tail, head + `""` + tail},
		{"behind a byte order mark", "\ufeff" + head + fill(provider.MaxValue+1) + tail, "\ufeff" + head + `""` + tail},
	} {
		hooks, err := e.Open(t.Context(), provider.Request{Body: []byte(test.body), ReceivedAt: received})
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		for _, hook := range slices.Collect(hooks) {
			if string(hook.Value) != test.want || hook.Drop != nil || hook.EmailID != uuid.MustParse(messageID) {
				t.Errorf("%s: %d bytes, %v, of %v", test.name, len(hook.Value), hook.Drop, hook.EmailID)
			}
			whole, err := decode([]byte(test.body))
			if cut, err2 := decode(hook.Value); err != nil || err2 != nil || cut != whole {
				t.Errorf("%s: it says\n%+v %v, whole\n%+v %v", test.name, cut, err2, whole, err)
			}
		}
	}
	// Cut off in Content it is refused, as no record could hold it; behind that it is
	// kept as a dead letter.
	whole := head + fill(provider.MaxValue+1000) + tail
	for _, n := range []int{provider.MaxValue + 1, len(whole) - len(tail) - 1, len(whole) - len(tail), len(whole) - len(tail) + 1, len(whole) - 3} {
		body := append(make([]byte, 0, 2*len(whole)), whole[:n]...) // with room behind it, as it is read
		var refusal *provider.Refusal
		hooks, err := e.Open(t.Context(), provider.Request{Body: body})
		if inContent := n < len(whole)-len(tail); inContent {
			if !errors.As(err, &refusal) || refusal.Status != http.StatusRequestEntityTooLarge {
				t.Errorf("cut off after %d bytes: %v, want 413", n, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("cut off after %d bytes: %v", n, err)
		}
		for hook := range hooks {
			if hook.Drop == nil || hook.Drop.Reason != tracking.NotJSON || len(hook.Value) > provider.MaxValue {
				t.Errorf("cut off after %d bytes: %v, %d bytes", n, hook.Drop, len(hook.Value))
			}
		}
	}
	for _, kind := range []string{`"FromFull":{}`, `"RecordType":"SubscriptionChange"`} {
		hooks, err := e.Open(t.Context(), provider.Request{Body: []byte(`{` + kind + `,"HtmlBody":"` + strings.Repeat("x", provider.MaxValue) + `"}`)})
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		for hook := range hooks {
			if hook.Drop == nil || hook.Drop.Reason != tracking.Untracked {
				t.Errorf("%s: %v, want it ignored", kind, hook.Drop)
			}
		}
	}
	tooLarge := `{"RecordType":"Bounce","Type":"HardBounce","Content":"","Details":"` + strings.Repeat("x", provider.MaxValue) + `"}`
	for _, body := range []string{tooLarge, tooLarge[:len(tooLarge)-1]} {
		var refusal *provider.Refusal
		if _, err := e.Open(t.Context(), provider.Request{Body: []byte(body)}); !errors.As(err, &refusal) || refusal.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("%v, want 413", err)
		}
	}
}

// Producer and consumer read the same from a body, and any body becomes either an event
// that PostgreSQL can hold or a reason.
func FuzzDecode(f *testing.F) {
	for _, body := range publishedBodies(f) {
		f.Add(body)
		f.Add(append([]byte("\ufeff"), body...))
	}
	e, err := postmark.New("me:a-secret-of-our-own")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > provider.MaxValue {
			return
		}
		event, err := decode(body)
		if err != nil && reasonOf(err) == "" {
			t.Fatalf("error without a reason: %v", err)
		}
		hooks, openErr := e.Open(t.Context(), provider.Request{Body: body})
		if openErr != nil {
			t.Fatal(openErr)
		}
		for _, hook := range slices.Collect(hooks) {
			if !bytes.Equal(hook.Value, body) {
				t.Fatalf("the value is %q", hook.Value)
			}
			if err == nil && (hook.Drop != nil || hook.EmailID != event.EmailID) {
				t.Fatalf("routed to %v (%v), decoded as %v", hook.EmailID, hook.Drop, event.EmailID)
			}
		}
		for _, text := range []string{event.ProviderEmailID, event.Link, event.UserAgent, event.Reason, event.Message} {
			if !utf8.ValidString(text) || strings.Contains(text, "\x00") || len(text) > tracking.MaxLink {
				t.Fatalf("text that PostgreSQL cannot hold: %q", text)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	var bodies [][]byte
	for _, body := range publishedBodies(b) {
		if _, err := decode(body); err != nil {
			continue
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, body); err != nil {
			b.Fatal(err)
		}
		bodies = append(bodies, compact.Bytes())
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := decode(bodies[i%len(bodies)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bodies/s")
}
