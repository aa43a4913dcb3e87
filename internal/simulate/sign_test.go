package simulate

import (
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The vectors that Svix and Standard Webhooks publish.
func TestSignPublishedVectors(t *testing.T) {
	for _, v := range []struct {
		secret, id string
		at         int64
		body, want string
	}{
		{testSecret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
			`{"test": 2432232314}`, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
		{"whsec_plJ3nmyCDGBKInavdOK15jsl", "msg_loFOjxBNrRLzqYUf", 1731705121,
			`{"event_type":"ping","data":{"success":true}}`, "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="},
		{"plJ3nmyCDGBKInavdOK15jsl", "msg_loFOjxBNrRLzqYUf", 1731705121, // the prefix is optional
			`{"event_type":"ping","data":{"success":true}}`, "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="},
	} {
		s, err := NewSigner(v.secret)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Sign(v.id, time.Unix(v.at, 0), []byte(v.body)); got != v.want {
			t.Errorf("Sign(%s) = %s, want %s", v.id, got, v.want)
		}
	}
}

func TestNewSignerRefusesUnusableSecrets(t *testing.T) {
	for _, secret := range []string{"", "whsec_", "whsec_not base64!", "whsec_TopSecret%"} {
		_, err := NewSigner(secret)
		if err == nil {
			t.Errorf("NewSigner(%q): no error", secret)
		} else if strings.Contains(err.Error(), "TopSecret") {
			t.Errorf("the error quotes the secret: %v", err)
		}
	}
}

// Forged and stale webhooks do not verify, all others do, with an independent
// implementation.
func TestHeaderVerifiesByKind(t *testing.T) {
	s, err := NewSigner(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := standardwebhooks.NewWebhook(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[Kind]int)
	g := NewGenerator(1, true, nil)
	for range 20_000 {
		w := g.Next()
		seen[w.Kind]++
		h := standardHeader(s.Header(w, time.Now()))
		if err := verifier.Verify(w.Body, h); (err == nil) != w.Kind.Authentic() {
			t.Fatalf("Verify(%v) = %v", w.Kind, err)
		}
		if err := verifier.VerifyIgnoringTimestamp(w.Body, h); (err == nil) != (w.Kind != Forged) {
			t.Fatalf("VerifyIgnoringTimestamp(%v) = %v", w.Kind, err)
		}
	}
	for k := range kinds {
		if seen[k] == 0 {
			t.Errorf("no %v webhook among them", k)
		}
	}
}

// standardHeader gives Svix's headers the names that the library reads.
func standardHeader(h http.Header) http.Header {
	out := make(http.Header)
	for _, name := range []string{"id", "timestamp", "signature"} {
		out.Set("webhook-"+name, h.Get("svix-"+name))
	}
	return out
}
