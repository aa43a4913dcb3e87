package resend

import (
	"context"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/mailtally/mailtally/tracking/provider"
)

const (
	testSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherSecret = "whsec_plJ3nmyCDGBKInavdOK15jsl"
	thirdSecret = "whsec_Y2hlY2stdGhlLXRoaXJkLW9uZS10b28h"
)

var (
	clicked = []byte(`{"type":"email.clicked","created_at":"2026-11-22T23:41:12.126Z","data":{"email_id":"56761188-7520-42d8-8898-ff6fc54ce618","click":{"link":"https://example.com"}}}`)
	at      = time.Unix(1_800_000_000, 0)
)

// sent is a webhook that a test sends. Zero fields get valid values.
type sent struct {
	id, secret, prefix string
	at                 time.Time
	signature          string // instead of the right one
	body               []byte
}

func (s sent) withDefaults() sent {
	if s.id == "" {
		s.id = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	}
	if s.secret == "" {
		s.secret = testSecret
	}
	if s.prefix == "" {
		s.prefix = "svix"
	}
	if s.at.IsZero() {
		s.at = at
	}
	if s.body == nil {
		s.body = clicked
	}
	return s
}

// sign computes the signature with an independent implementation.
func (s sent) sign(t testing.TB) string {
	t.Helper()
	s = s.withDefaults()
	signer, err := standardwebhooks.NewWebhook(s.secret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign(s.id, s.at, s.body)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

func (s sent) header(t testing.TB) http.Header {
	t.Helper()
	s = s.withDefaults()
	if s.signature == "" {
		s.signature = s.sign(t)
	}
	h := make(http.Header)
	h.Set(s.prefix+"-id", s.id)
	h.Set(s.prefix+"-timestamp", strconv.FormatInt(s.at.Unix(), 10))
	h.Set(s.prefix+"-signature", s.signature)
	return h
}

// open has e admit and open a request.
func open(e provider.Endpoint, now time.Time, h http.Header, body []byte) (hooks []provider.Webhook, err error) {
	if err := e.Admit(h, now); err != nil {
		return nil, err
	}
	all, err := e.Open(context.Background(), provider.Request{Header: h, Body: body, ReceivedAt: now})
	if err != nil {
		return nil, err
	}
	return slices.Collect(all), nil
}

func endpoint(t testing.TB, secrets ...string) provider.Endpoint {
	t.Helper()
	e, err := New(strings.Join(secrets, ","))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// want fails the test unless the endpoint accepts the request, or, if not taken,
// refuses it with 401.
func want(t testing.TB, taken bool, hooks []provider.Webhook, err error) {
	t.Helper()
	refusal, refused := err.(*provider.Refusal)
	switch {
	case taken && (err != nil || len(hooks) != 1):
		t.Errorf("%d webhooks, %v; want it accepted", len(hooks), err)
	case !taken && (!refused || refusal.Status != http.StatusUnauthorized || refusal.Text == ""):
		t.Errorf("%v, want 401", err)
	}
}

// The vectors that Standard Webhooks and Svix publish.
func TestPublishedVectors(t *testing.T) {
	tests := []struct {
		secret, id string
		at         int64
		body       string
		signature  string
	}{
		{testSecret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, `{"test": 2432232314}`,
			"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
		{otherSecret, "msg_loFOjxBNrRLzqYUf", 1731705121, `{"event_type":"ping","data":{"success":true}}`,
			"v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="},
	}
	for _, test := range tests {
		e := endpoint(t, test.secret)
		hook := sent{id: test.id, at: time.Unix(test.at, 0), signature: test.signature}
		hooks, err := open(e, hook.at, hook.header(t), []byte(test.body))
		want(t, true, hooks, err)
		hooks, err = open(e, hook.at, hook.header(t), []byte(test.body+"\n"))
		want(t, false, hooks, err)
	}
}

func TestSignatureHeader(t *testing.T) {
	hook := sent{}
	right := hook.sign(t)
	wrong := sent{secret: thirdSecret}.sign(t)
	rotated := sent{secret: otherSecret}.sign(t)
	bare := strings.TrimPrefix(right, "v1,")
	tests := []struct {
		name, signature string
		taken           bool
	}{
		{"right", right, true},
		{"of the other secret", rotated, true},
		{"wrong", wrong, false},
		{"right among others", strings.Join([]string{wrong, "v1a," + bare, "v2," + bare, "junk", "", right, wrong}, " "), true},
		{"right after a thousand", strings.Repeat(wrong+" ", 1000) + right, true},
		{"none right", strings.Join([]string{wrong, "v1a," + bare, "v2," + bare}, " "), false},
		{"another version", "v1a," + bare, false},
		{"no version", bare, false},
		{"version in capitals", "V1," + bare, false},
		{"no padding", strings.TrimRight(right, "="), false},
		{"more after it", right + "A", false},
		{"version alone", "v1,", false},
		{"not base64", "v1,%%%", false},
		{"blank", " ", false},
	}
	e := endpoint(t, testSecret, otherSecret)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			hook.signature = test.signature
			hooks, err := open(e, at, hook.header(t), clicked)
			want(t, test.taken, hooks, err)
		})
	}
}

// Everything that is signed must be unchanged, byte for byte, even where two bodies
// mean the same JSON.
func TestSignatureIsOverTheRawBytes(t *testing.T) {
	e := endpoint(t, testSecret)
	signed := sent{}.withDefaults()
	signed.signature = signed.sign(t)
	changes := map[string]func(*sent){
		"id":         func(h *sent) { h.id = "msg_another" },
		"timestamp":  func(h *sent) { h.at = h.at.Add(time.Second) },
		"whitespace": func(h *sent) { h.body = append(slices.Clone(clicked), ' ') },
		"empty":      func(h *sent) { h.body = []byte{} },
		"shorter":    func(h *sent) { h.body = clicked[:len(clicked)-1] },
		"a space": func(h *sent) {
			h.body = []byte(strings.Replace(string(clicked), `"type":"email.clicked"`, `"type": "email.clicked"`, 1))
		},
	}
	for i := range 20 {
		changes["byte "+strconv.Itoa(i)] = func(h *sent) {
			h.body = slices.Clone(clicked)
			h.body[i*len(clicked)/20] ^= 1
		}
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			hook := signed
			change(&hook)
			hooks, err := open(e, at, hook.header(t), hook.body)
			want(t, false, hooks, err)
		})
	}
	hooks, err := open(e, at, signed.header(t), clicked)
	want(t, true, hooks, err)
}

func TestTimestamp(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	tests := []struct {
		name      string
		now       time.Time
		timestamp string
		fresh     bool
	}{
		{"now", now, "1800000000", true},
		{"five minutes old", now, "1799999700", true},
		{"a nanosecond older", now.Add(1), "1799999700", false},
		{"a second older", now, "1799999699", false},
		{"five minutes ahead", now, "1800000300", true},
		{"a nanosecond more ahead", now.Add(-1), "1800000300", false},
		{"a second more ahead", now, "1800000301", false},
		{"zero", now, "0", false},
		{"negative", now, "-1800000000", false},
		{"the least", now, strconv.Itoa(math.MinInt64), false},
		{"the greatest", now, strconv.Itoa(math.MaxInt64), false},
		{"greater", now, "18446744073709551616", false},
		{"64 bits wrapped around", now, "18446744075509551616", false},
		{"milliseconds", now, "1800000000000", false},
		{"fraction", now, "1800000000.0", false},
		{"hexadecimal", now, "0x6b49d200", false},
		{"underscores", now, "1_800_000_000", false},
		{"text", now, "now", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := sent{}.header(t)
			h.Set("svix-timestamp", test.timestamp)
			if err := endpoint(t, testSecret).Admit(h, test.now); (err == nil) != test.fresh {
				t.Errorf("%v, want fresh %t", err, test.fresh)
			}
		})
	}
}

func TestSignatureHeaderNames(t *testing.T) {
	svix, webhook := sent{}.header(t), sent{prefix: "webhook"}.header(t)
	tests := []struct {
		name   string
		header http.Header
		taken  bool
	}{
		{"svix", svix, true},
		{"webhook", webhook, true},
		{"svix without id", without(svix, "svix-id"), false},
		{"svix without timestamp", without(svix, "svix-timestamp"), false},
		{"svix without signature", without(svix, "svix-signature"), false},
		{"webhook without id", without(webhook, "webhook-id"), false},
		{"webhook without timestamp", without(webhook, "webhook-timestamp"), false},
		{"webhook without signature", without(webhook, "webhook-signature"), false},
		{"none", http.Header{}, false},
		{"half of each", merged(without(svix, "svix-id"), without(webhook, "webhook-signature")), false},
		{"an incomplete and a whole set", merged(without(svix, "svix-id"), webhook), true},
		{"both", merged(svix, webhook), true},
	}
	for _, name := range []string{"Svix-Id", "Svix-Timestamp", "Svix-Signature"} {
		blank := svix.Clone()
		blank.Set(name, "")
		tests = append(tests, struct {
			name   string
			header http.Header
			taken  bool
		}{name + " blank", blank, false})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			hooks, err := open(endpoint(t, testSecret), at, test.header, clicked)
			want(t, test.taken, hooks, err)
		})
	}
}

// If a header is repeated, the one recorded is the one verified.
func TestRepeatedHeaders(t *testing.T) {
	e := endpoint(t, testSecret)
	for _, name := range []string{"Svix-Id", "Svix-Timestamp", "Svix-Signature"} {
		h := sent{}.header(t)
		right := h.Get(name)
		h[name] = []string{right, "forged"}
		hooks, err := open(e, at, h, clicked)
		want(t, true, hooks, err)
		for _, hook := range hooks {
			if hook.EventID == "forged" || hook.SentAt == "forged" {
				t.Errorf("%s was not verified", name)
			}
		}
		h[name] = []string{"forged", right}
		hooks, err = open(e, at, h, clicked)
		want(t, false, hooks, err)
	}
}

// Our implementation and the independent one agree on which signatures are right.
func TestSignatureAgreesWithStandardWebhooks(t *testing.T) {
	theirs, err := standardwebhooks.NewWebhook(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d bodies, %v", len(files), err)
	}
	now := time.Now() // theirs accepts no other
	for _, secret := range []string{testSecret, otherSecret} {
		for _, file := range files {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			h := sent{secret: secret, at: now, prefix: "webhook", body: body}.header(t)
			hooks, err := open(endpoint(t, testSecret), now, h, body)
			want(t, theirs.Verify(body, h) == nil, hooks, err)
		}
	}
}

func without(header http.Header, name string) http.Header {
	header = header.Clone()
	header.Del(name)
	return header
}

func merged(one, other http.Header) http.Header {
	one = one.Clone()
	for name, values := range other {
		one[name] = values
	}
	return one
}
