package producer

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The vectors that Standard Webhooks and Svix publish, through the whole gateway.
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
		t.Run(test.id, func(t *testing.T) {
			at := time.Unix(test.at, 0)
			g := newGateway(t, gatewayOptions{secrets: []string{test.secret}, now: func() time.Time { return at }})
			hook := sentWebhook{id: test.id, at: at, body: []byte(test.body), signature: test.signature}
			g.want(http.StatusNoContent, hook) // signed, and without a type
			g.wantRecords(0, 1)
			hook.body = []byte(test.body + "\n")
			g.want(http.StatusUnauthorized, hook)
			g.wantRecords(0, 1)
		})
	}
}

func TestSignatureHeader(t *testing.T) {
	hook := sentWebhook{at: time.Now()}
	right := hook.sign()
	wrong := sentWebhook{at: hook.at, secret: thirdSecret}.sign()
	rotated := sentWebhook{at: hook.at, secret: otherSecret}.sign()
	bare := strings.TrimPrefix(right, "v1,")
	tests := []struct {
		name, signature string
		status          int
	}{
		{"right", right, http.StatusNoContent},
		{"of the other secret", rotated, http.StatusNoContent},
		{"wrong", wrong, http.StatusUnauthorized},
		{"right among others", strings.Join([]string{wrong, "v1a," + bare, "v2," + bare, "junk", "", right, wrong}, " "), http.StatusNoContent},
		{"right after a thousand", strings.Repeat(wrong+" ", 1000) + right, http.StatusNoContent},
		{"none right", strings.Join([]string{wrong, "v1a," + bare, "v2," + bare}, " "), http.StatusUnauthorized},
		{"another version", "v1a," + bare, http.StatusUnauthorized},
		{"no version", bare, http.StatusUnauthorized},
		{"version in capitals", "V1," + bare, http.StatusUnauthorized},
		{"no padding", strings.TrimRight(right, "="), http.StatusUnauthorized},
		{"more after it", right + "A", http.StatusUnauthorized},
		{"version alone", "v1,", http.StatusUnauthorized},
		{"not base64", "v1,%%%", http.StatusUnauthorized},
		{"blank", " ", http.StatusUnauthorized},
	}
	g := newGateway(t, gatewayOptions{secrets: []string{testSecret, otherSecret}})
	accepted, refused := 0, 0
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g.t = t
			hook.signature = test.signature
			g.want(test.status, hook)
		})
		if test.status == http.StatusNoContent {
			accepted++
		} else {
			refused++
		}
	}
	g.t = t
	g.wantRecords(accepted, 0)
	g.wantCounts(map[result]int{"accepted": accepted, "unauthorized": refused})
}

// Everything that is signed has to be as it was: not a byte is forgiven, and
// what JSON does not tell apart is not the same.
func TestSignatureIsOverTheRawBytes(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	signature := sentWebhook{at: time.Now()}
	signature.signature = signature.sign()
	changes := map[string]func(*sentWebhook){
		"id":         func(h *sentWebhook) { h.id = "msg_another" },
		"timestamp":  func(h *sentWebhook) { h.at = h.at.Add(time.Second) },
		"whitespace": func(h *sentWebhook) { h.body = append(slices.Clone(clicked), ' ') },
		"empty":      func(h *sentWebhook) { h.body = []byte{} },
		"shorter":    func(h *sentWebhook) { h.body = clicked[:len(clicked)-1] },
		"key order": func(h *sentWebhook) {
			h.body = []byte(strings.Replace(string(clicked), `"type": "email.clicked"`, `"type":"email.clicked"`, 1))
		},
	}
	for i := range 20 {
		changes["byte "+strconv.Itoa(i)] = func(h *sentWebhook) {
			h.body = slices.Clone(clicked)
			h.body[i*len(clicked)/20] ^= 1
		}
	}
	for name, change := range changes {
		hook := signature
		change(&hook)
		if a := g.post(hook); a.status != http.StatusUnauthorized {
			t.Errorf("%s changed: answered %d", name, a.status)
		}
	}
	g.wantRecords(0, 0)
	g.wantCounts(map[result]int{"unauthorized": len(changes)})
	g.want(http.StatusNoContent, signature)
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
		{"once round the clock of 64 bits", now, "18446744075509551616", false},
		{"milliseconds", now, "1800000000000", false},
		{"fraction", now, "1800000000.0", false},
		{"hexadecimal", now, "0x6b49d200", false},
		{"underscores", now, "1_800_000_000", false},
		{"text", now, "now", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := signature{timestamp: test.timestamp}.fresh(test.now)
			if (err == nil) != test.fresh {
				t.Errorf("%v, want fresh %t", err, test.fresh)
			}
		})
	}
}

// The same at the gateway, where what is signed rightly is refused for its age.
func TestStaleIsUnauthorized(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	g := newGateway(t, gatewayOptions{now: func() time.Time { return now }})
	for _, age := range []time.Duration{5*time.Minute + time.Second, -5*time.Minute - time.Second, time.Hour, -time.Hour} {
		g.want(http.StatusUnauthorized, sentWebhook{at: now.Add(-age)})
	}
	g.wantRecords(0, 0)
	for _, age := range []time.Duration{5 * time.Minute, 0, -5 * time.Minute} {
		g.want(http.StatusNoContent, sentWebhook{at: now.Add(-age)})
	}
	g.wantRecords(3, 0)
	g.wantCounts(map[result]int{"unauthorized": 4, "accepted": 3})
}

func TestSignatureHeaderNames(t *testing.T) {
	hook := sentWebhook{at: time.Now()}
	svix, webhook := hook.header(), sentWebhook{at: hook.at, prefix: "webhook"}.header()
	tests := []struct {
		name   string
		header http.Header
		status int
	}{
		{"svix", svix, http.StatusNoContent},
		{"webhook", webhook, http.StatusNoContent},
		{"svix without id", without(svix, "svix-id"), http.StatusUnauthorized},
		{"svix without timestamp", without(svix, "svix-timestamp"), http.StatusUnauthorized},
		{"svix without signature", without(svix, "svix-signature"), http.StatusUnauthorized},
		{"webhook without id", without(webhook, "webhook-id"), http.StatusUnauthorized},
		{"webhook without timestamp", without(webhook, "webhook-timestamp"), http.StatusUnauthorized},
		{"webhook without signature", without(webhook, "webhook-signature"), http.StatusUnauthorized},
		{"none", http.Header{}, http.StatusUnauthorized},
		{"half of each", merged(without(svix, "svix-id"), without(webhook, "webhook-signature")), http.StatusUnauthorized},
		{"an incomplete and a whole set", merged(without(svix, "svix-id"), webhook), http.StatusNoContent},
		{"both", merged(svix, webhook), http.StatusNoContent},
	}
	for _, name := range []string{"Svix-Id", "Svix-Timestamp", "Svix-Signature"} {
		blank := svix.Clone()
		blank.Set(name, "")
		tests = append(tests, struct {
			name   string
			header http.Header
			status int
		}{name + " blank", blank, http.StatusUnauthorized})
	}
	g := newGateway(t, gatewayOptions{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := hook.request(t, g.addr)
			r.Header = test.header
			if a := g.do(r); a.status != test.status {
				t.Errorf("answered %d %q, want %d", a.status, a.text, test.status)
			}
		})
	}
}

// Where a header comes twice, what is recorded is what was verified.
func TestRepeatedHeaders(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	for _, name := range []string{"Svix-Id", "Svix-Timestamp", "Svix-Signature"} {
		r := sentWebhook{}.request(t, g.addr)
		right := r.Header.Get(name)
		r.Header[name] = []string{right, "forged"}
		if a := g.do(r); a.status != http.StatusNoContent {
			t.Errorf("%s forged after the right one: answered %d", name, a.status)
		}
		r = sentWebhook{}.request(t, g.addr)
		r.Header[name] = []string{"forged", right}
		if a := g.do(r); a.status != http.StatusUnauthorized {
			t.Errorf("%s forged before the right one: answered %d", name, a.status)
		}
	}
	records := g.records(topic)
	if len(records) != 3 {
		t.Errorf("%d records, want 3", len(records))
	}
	for _, record := range records {
		for _, header := range record.Headers {
			if string(header.Value) == "forged" {
				t.Errorf("header %s was not verified", header.Key)
			}
		}
	}
}

// Where the independent implementation finds a signature right, so do we, and
// the other way round.
func TestSignatureAgreesWithStandardWebhooks(t *testing.T) {
	theirs, err := standardwebhooks.NewWebhook(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	ours := parseSecrets(t, testSecret)
	for _, secret := range []string{testSecret, otherSecret} {
		for name, body := range realBodies(t) {
			header := sentWebhook{secret: secret, prefix: "webhook", body: body}.header()
			sig, err := readSignature(header)
			if err != nil {
				t.Fatal(err)
			}
			if verified := theirs.Verify(body, header) == nil; sig.matches(ours, body) != verified {
				t.Errorf("%s: they say %t", name, verified)
			}
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
