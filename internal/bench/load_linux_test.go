package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// loadOn runs a generator against a server with that handler.
func loadOn(t *testing.T, l generator, handler http.HandlerFunc) (*loaded, error) {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	l.addr = strings.TrimPrefix(server.URL, "http://")
	request := []byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
	l.request = func(int, time.Time) []byte { return request }
	met, _, err := l.load(t.Context())
	return met, err
}

// Any 2xx counts as acknowledged, and nothing else.
func TestLoadTakes2xxAlone(t *testing.T) {
	for status, well := range map[int]bool{200: true, 204: true, 301: false, 401: false, 503: false} {
		l := generator{connections: 3, measured: 50 * time.Millisecond}
		met, err := loadOn(t, l, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		if (err == nil) != well {
			t.Errorf("status %d: error %v", status, err)
		}
		if well && (met.sent < 3 || len(met.latencies) != met.sent || met.acknowledged > met.sent) {
			t.Errorf("status %d: %d sent, %d acknowledged, %d measured", status, met.sent, met.acknowledged, len(met.latencies))
		}
	}
	met, err := loadOn(t, generator{connections: 1, measured: 50 * time.Millisecond}, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if err == nil {
		t.Errorf("a connection that ends without an answer is no error: %+v", met)
	}
}

// Requests due while the server was stalled have waited since then, even if no
// connection was free to send them, and even if they were never sent.
func TestLoadCountsFromWhenRequestsWereDue(t *testing.T) {
	l := generator{connections: 2, rate: 1000, measured: 200 * time.Millisecond}
	met, err := loadOn(t, l, func(http.ResponseWriter, *http.Request) { <-time.After(l.measured) })
	if err != nil {
		t.Fatal(err)
	}
	if met.unsent == 0 || len(met.latencies) != met.sent+met.unsent {
		t.Errorf("%d in the figures, of %d that were sent and %d that were not", len(met.latencies), met.sent, met.unsent)
	}
	// Half of them were due before the middle, and have waited to the end at least.
	if got, least := met.ms(.5), ms(l.measured)/4; got < least {
		t.Errorf("half was answered within %.0f ms, want %.0f at least", got, least)
	}
}
