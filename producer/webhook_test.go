package producer

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/mailtally/mailtally/tracking/provider"
	"github.com/mailtally/mailtally/tracking/provider/resend"
)

const (
	testSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherSecret = "whsec_plJ3nmyCDGBKInavdOK15jsl"
	thirdSecret = "whsec_Y2hlY2stdGhlLXRoaXJkLW9uZS10b28h"

	emailID = "56761188-7520-42d8-8898-ff6fc54ce618"
)

// private is text in the test bodies that must not get into a log.
var private = []string{"alice.private@example.com", "https://private.example/reset", "PrivateSubject", "PrivateType", "PrivateID"}

// clicked is a body as Resend sends it, of 700 bytes.
var clicked = []byte(`{
  "created_at": "2026-11-22T23:41:12.126Z",
  "data": {
    "created_at": "2026-11-22T23:41:11.894719+00:00",
    "email_id": "` + emailID + `",
    "message_id": "<111-222-333@email.example.com>",
    "from": "Acme <onboarding@resend.dev>",
    "to": ["alice.private@example.com"],
    "click": {
      "ipAddress": "122.115.53.11",
      "link": "https://private.example/reset?token=b8146471e88e4322",
      "timestamp": "2026-11-24T05:00:57.163Z",
      "userAgent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/605.1.15"
    },
    "subject": "PrivateSubject: reset your password"
  },
  "type": "email.clicked"
}
`)

var contactCreated = []byte(`{"type": "contact.created", "data": {"email": "alice.private@example.com"}}`)

// sentWebhook is a webhook that a test sends. Zero fields get valid values.
type sentWebhook struct {
	id        string
	at        time.Time
	secret    string
	prefix    string // of the header names; svix if empty
	signature string // instead of the right one
	body      []byte
	chunked   bool
}

func (hook sentWebhook) withDefaults() sentWebhook {
	if hook.id == "" {
		hook.id = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	}
	if hook.at.IsZero() {
		hook.at = time.Now()
	}
	if hook.secret == "" {
		hook.secret = testSecret
	}
	if hook.prefix == "" {
		hook.prefix = "svix"
	}
	if hook.body == nil {
		hook.body = clicked
	}
	return hook
}

// sign computes the signature with an independent implementation.
func (hook sentWebhook) sign() string {
	hook = hook.withDefaults()
	signer, err := standardwebhooks.NewWebhook(hook.secret)
	if err != nil {
		panic(err)
	}
	signature, err := signer.Sign(hook.id, hook.at, hook.body)
	if err != nil {
		panic(err)
	}
	return signature
}

func (hook sentWebhook) header() http.Header {
	hook = hook.withDefaults()
	if hook.signature == "" {
		hook.signature = hook.sign()
	}
	header := make(http.Header)
	header.Set(hook.prefix+"-id", hook.id)
	header.Set(hook.prefix+"-timestamp", strconv.FormatInt(hook.at.Unix(), 10))
	header.Set(hook.prefix+"-signature", hook.signature)
	return header
}

func (hook sentWebhook) request(t testing.TB, addr string) *http.Request {
	t.Helper()
	hook = hook.withDefaults()
	var body io.Reader = bytes.NewReader(hook.body)
	if hook.chunked {
		body = io.MultiReader(body) // hides the length from net/http
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/webhooks/resend", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = hook.header()
	r.Header.Set("Content-Type", "application/json")
	return r
}

// bodyOfSize gives a body of n bytes that can be tracked.
func bodyOfSize(n int) []byte {
	const head, tail = `{"type":"email.sent","data":{"email_id":"` + emailID + `","subject":"`, `"}}`
	return fmt.Appendf(nil, "%s%s%s", head, bytes.Repeat([]byte("x"), n-len(head)-len(tail)), tail)
}

// realBodies are those that Resend and its users have published.
func realBodies(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("../tracking/provider/resend/testdata/*.json")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d real bodies, %v", len(files), err)
	}
	bodies := make(map[string][]byte)
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		bodies[filepath.Base(file)] = body
	}
	return bodies
}

// endpoint is Resend's, with secrets.
func endpoint(t testing.TB, secrets ...string) provider.Endpoint {
	t.Helper()
	e, err := resend.New(strings.Join(secrets, ","))
	if err != nil {
		t.Fatal(err)
	}
	return e
}
