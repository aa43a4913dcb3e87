package producer

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/mailtally/mailtally/tracking/provider"
)

// serve calls the handler without a connection, and returns the status.
func serve(t testing.TB, handler http.Handler, hook sentWebhook) int {
	t.Helper()
	r := hook.request(t, "test")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Code
}

// FuzzHandler sends any headers and any body, correctly signed or not. The answer is
// always one of the contract's, and follows from signature and body.
func FuzzHandler(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	timestamp := strconv.FormatInt(now.Unix(), 10)
	for _, body := range realBodies(f) {
		f.Add("msg_1", timestamp, "", body, true, false)
		f.Add("msg_1", timestamp, "v1,AAAA", body, false, true)
	}
	for _, body := range []string{"", "{", "[]", "null", `{"type":"email.sent","data":{"email_id":"x"}}`, "\x00\xff"} {
		f.Add("msg_1", timestamp, "v1a,x", []byte(body), true, true)
	}
	f.Add("", timestamp, "", clicked, true, false)
	f.Add("msg_1", "", "", clicked, true, false)
	f.Add("msg_1", "-1", "v1", clicked, true, false)
	f.Add("msg_1\r\nX: y", "1799999699", " v1, v1,= ,", clicked, true, false)
	// No seed is as large as the limit: minimizing one would take too long.

	g := newGateway(f, gatewayOptions{now: func() time.Time { return now }})
	handler := g.producer.Handler()
	resends := endpoint(f, testSecret)
	f.Fuzz(func(t *testing.T, id, timestamp, signatures string, body []byte, sign, chunked bool) {
		r := httptest.NewRequest(http.MethodPost, "/webhooks/resend", bytes.NewReader(body))
		if chunked {
			r.ContentLength = -1
		}
		if sign {
			seconds, err := strconv.ParseInt(timestamp, 10, 64)
			if err == nil {
				timestamp = strconv.FormatInt(seconds, 10)
				signatures += " " + sentWebhook{id: id, at: time.Unix(seconds, 0), body: body}.sign()
			}
		}
		r.Header = http.Header{"Svix-Id": {id}, "Svix-Timestamp": {timestamp}, "Svix-Signature": {signatures}}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)

		err := resends.Admit(r.Header, now)
		admitted := err == nil
		if admitted {
			_, err = resends.Open(t.Context(), provider.Request{Header: r.Header, Body: body})
		}
		switch status := w.Code; {
		case !admitted:
			if status != http.StatusUnauthorized {
				t.Errorf("answered %d to a stale signature", status)
			}
		case len(body) > provider.MaxValue:
			if status != http.StatusRequestEntityTooLarge {
				t.Errorf("answered %d to %d bytes", status, len(body))
			}
		case sign && id != "" && len(body) > 0 || err == nil:
			if status != http.StatusOK {
				t.Errorf("answered %d to a correct signature (%v)", status, err)
			}
		case status != http.StatusUnauthorized:
			t.Errorf("answered %d to a wrong signature", status)
		}
		if held := g.producer.held.bytes.Load(); held != 0 {
			t.Errorf("%d bytes are held", held)
		}
	})
}
