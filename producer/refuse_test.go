package producer

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mailtally/mailtally/tracking/provider"
	"github.com/mailtally/mailtally/tracking/provider/postmark"
)

func TestMethods(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post", "PURGE"} {
		r := sentWebhook{}.request(t, g.addr)
		r.Method = method
		a := g.do(r)
		if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "POST" {
			t.Errorf("%s: answered %d with Allow %q", method, a.status, a.header.Get("Allow"))
		}
	}
	g.wantRecords(0, 0)
}

func TestPaths(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	for _, path := range []string{"", "/", "//", "/webhooks", "/webhooks/", "/webhooks/resend/x", "/webhooks/Resend",
		"/webhooks/other", "/webhooks%2Fresend", "//webhooks%2Fresend", "/x//webhooks/resend", "/metrics", "/healthz", "/readyz", "/debug/pprof/"} {
		r := sentWebhook{}.request(t, g.addr)
		url, err := r.URL.Parse("http://" + g.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		r.URL = url
		if a := g.do(r); a.status != http.StatusNotFound {
			t.Errorf("%q: answered %d", path, a.status)
		}
	}
	g.wantRecords(0, 0)
	g.wantCounts(nil)

	r := sentWebhook{}.request(t, g.addr)
	r.URL.RawQuery = "from=resend"
	if a := g.do(r); a.status != http.StatusOK {
		t.Errorf("with a query: answered %d", a.status)
	}

	// Answered themselves, not redirected: a provider does not follow.
	handler := g.producer.Handler()
	for _, path := range []string{"//webhooks/resend", "/webhooks//resend", "/webhooks/resend/", "///webhooks///resend//", "/webhooks/./resend", "/x/../webhooks/resend", "//webhooks/resend?from=resend"} {
		r := sentWebhook{}.request(t, g.addr)
		var err error
		if r.URL, err = url.Parse("http://" + g.addr + path); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("%q: answered %d, Location %q", path, w.Code, w.Header().Get("Location"))
		}
	}
}

func TestTooLarge(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	for _, chunked := range []bool{false, true} {
		for size, status := range map[int]int{
			provider.MaxValue:      http.StatusOK,
			provider.MaxValue + 1:  http.StatusRequestEntityTooLarge,
			10 * provider.MaxValue: http.StatusRequestEntityTooLarge,
		} {
			if a := g.post(sentWebhook{body: bodyOfSize(size), chunked: chunked}); a.status != status {
				t.Errorf("%d bytes, chunked %t: answered %d, want %d", size, chunked, a.status, status)
			}
		}
	}
	g.wantRecords(2, 0)
	g.wantCounts(map[result]int{accepted: 2, tooLarge: 4})
}

// The largest body that any provider may send fits, and what is larger is refused for good,
// announced or not.
func TestTooLarge_OfThemAll(t *testing.T) {
	const most = 8 << 20
	complaints, err := postmark.New("user:a long enough password")
	if err != nil {
		t.Fatal(err)
	}
	if complaints.Limit() != most {
		t.Fatalf("the limit is %d", complaints.Limit())
	}
	g := newGateway(t, gatewayOptions{others: []provider.Endpoint{complaints}})
	const head = `{"RecordType":"SpamComplaint","MessageID":"` + emailID + `","ID":1,"BouncedAt":"2026-11-25T20:00:00Z","Content":"`
	for _, chunked := range []bool{false, true} {
		for size, status := range map[int]int{most - 1: http.StatusOK, most: http.StatusOK, most + 1: http.StatusRequestEntityTooLarge} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.addr+"/webhooks/postmark", strings.NewReader(head+strings.Repeat("x", size-len(head+`"}`))+`"}`))
			if err != nil {
				t.Fatal(err)
			}
			if chunked {
				r.ContentLength = -1
			}
			r.SetBasicAuth("user", "a long enough password")
			if a := g.do(r); a.status != status {
				t.Errorf("%d bytes, chunked %t: answered %d %q, want %d", size, chunked, a.status, a.text, status)
			}
		}
	}
	g.wantCountsOf("postmark", map[result]int{accepted: 4, tooLarge: 2})
}

// endless is a body that never ends, and counts the bytes read from it.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	clear(p)
	return len(p), nil
}

// Of a body that is too large, no more is read or held than the limit; of one that
// announces it, or is stale, nothing.
func TestTooLargeIsNotRead(t *testing.T) {
	tests := []struct {
		name   string
		length int64
		hook   sentWebhook
		status int
		most   int
	}{
		{"announced", provider.MaxValue + 1, sentWebhook{}, http.StatusRequestEntityTooLarge, 0},
		{"announced beyond all measure", 1 << 62, sentWebhook{}, http.StatusRequestEntityTooLarge, 0},
		{"not announced", -1, sentWebhook{}, http.StatusRequestEntityTooLarge, provider.MaxValue + 1},
		{"stale", -1, sentWebhook{at: time.Now().Add(-time.Hour)}, http.StatusUnauthorized, 0},
		{"longer than announced", 100, sentWebhook{}, http.StatusRequestEntityTooLarge, 101}, // net/http cuts it off earlier
	}
	g := newGateway(t, gatewayOptions{})
	handler := g.producer.Handler()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			body := &endless{}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/webhooks/resend", body)
			r.ContentLength = test.length
			r.Header = test.hook.header()
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != test.status {
				t.Errorf("answered %d, want %d", w.Code, test.status)
			}
			if body.read > test.most {
				t.Errorf("%d bytes were read, want no more than %d", body.read, test.most)
			}
		})
	}
}

// A sender that uses Expect: 100-continue is refused before it has sent anything.
func TestRefusedWithoutContinue(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	for _, test := range []struct {
		hook   sentWebhook
		length int
		want   string
	}{
		{sentWebhook{}, len(clicked), "HTTP/1.1 100 "},
		{sentWebhook{}, provider.MaxValue + 1, "HTTP/1.1 413 "},
		{sentWebhook{at: time.Now().Add(-time.Hour)}, len(clicked), "HTTP/1.1 401 "},
	} {
		conn := g.dial()
		fmt.Fprint(conn, rawRequest(test.hook, fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n", test.length)))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, test.want) {
			t.Errorf("answered %q (%v), want %q", line, err, test.want)
		}
		conn.Close()
	}
	wait(t, "handled", g.handled, 3)
}

// A sender that goes on after its 413 is disconnected, rather than read to the end.
func TestTooLargeEndsTheConnection(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	for _, framing := range []string{"Content-Length: 1000000000000\r\n", "Transfer-Encoding: chunked\r\n"} {
		conn := g.dial()
		fmt.Fprint(conn, rawRequest(sentWebhook{}, framing))
		chunk := append([]byte("10000\r\n"), append(bytes.Repeat([]byte("x"), 0x10000), "\r\n"...)...)
		const most = 200 << 20 // far more than the buffers between
		sent := 0
		for sent < most {
			n, err := conn.Write(chunk)
			sent += n
			if err != nil {
				break
			}
		}
		if sent >= most {
			t.Errorf("%s: %d bytes were taken", framing, sent)
		}
		conn.Close()
	}
	wait(t, "handled", g.handled, 2)
	g.wantCounts(map[result]int{tooLarge: 2})
}

// After an answer that is not 2xx the connection can be reused, in step: the rest of a
// refused body is not taken for a request.
func TestConnectionServesOnAfterARefusal(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	smuggled := "POST /webhooks/resend HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
	for _, refused := range []sentWebhook{
		{secret: otherSecret},
		{at: time.Now().Add(-time.Hour)},
		{secret: otherSecret, body: []byte(smuggled)},
		{at: time.Now().Add(-time.Hour), body: []byte(smuggled), chunked: true},
		{secret: otherSecret, body: bodyOfSize(provider.MaxValue)},
	} {
		g.want(http.StatusUnauthorized, refused)
		r := sentWebhook{}.request(t, g.addr)
		var reused bool
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			GotConn: func(conn httptrace.GotConnInfo) { reused = conn.Reused },
		}))
		if a := g.do(r); a.status != http.StatusOK || !reused {
			t.Errorf("answered %d, on the same connection: %t", a.status, reused)
		}
	}
	// 413 closes it: there would be too much to read before the next request.
	g.want(http.StatusRequestEntityTooLarge, sentWebhook{body: bodyOfSize(4 * provider.MaxValue), chunked: true})
	g.want(http.StatusOK, sentWebhook{})
	g.wantCounts(map[result]int{unauthorized: 5, tooLarge: 1, accepted: 6})
}

// The refusal says why in plain text, and quotes nothing of the request.
func TestRefusalText(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	for _, hook := range []sentWebhook{
		{secret: otherSecret, id: "<script>"},
		{signature: "v1,<script>"},
		{at: time.Now().Add(-time.Hour), id: "<script>"},
		{body: append(bodyOfSize(provider.MaxValue), "<script>"...)},
	} {
		a := g.post(hook)
		if a.text == "" || strings.Contains(a.text, "script") || a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("answered %d %q as %q", a.status, a.text, a.header.Get("Content-Type"))
		}
	}
}

// dial opens a connection for the test to write to.
func (g *gateway) dial() net.Conn {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		g.t.Fatal(err)
	}
	return conn
}

// readStatus reads an answer from a connection; 0 if that has ended.
func readStatus(conn net.Conn) int {
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}
