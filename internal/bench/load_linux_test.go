package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// loadOn runs a generator against a server that does that with each request.
func loadOn(t *testing.T, l generator, handler http.HandlerFunc) *loaded {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	l.addr = strings.TrimPrefix(server.URL, "http://")
	request := appendRequest(nil, l.addr, "/", nil, []byte("hello"), l.anew)
	l.request = func(int, time.Time) []byte { return request }
	met, err := l.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return met
}

// stalls has a server halt once, for so long, the first time that it is asked so
// long after its start: all who come meanwhile wait for the same moment.
func stalls(after, long time.Duration) http.HandlerFunc {
	start := time.Now()
	return func(w http.ResponseWriter, _ *http.Request) {
		if since := time.Since(start); since >= after && since < after+long {
			<-time.After(after + long - since)
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// Who came while the server halted has waited since then, though there was no
// connection to send it on.
func TestLoadCountsFromWhenRequestsWereDue(t *testing.T) {
	l := generator{connections: 4, rate: 1000, measured: time.Second}
	met := loadOn(t, l, stalls(400*time.Millisecond, 400*time.Millisecond))
	if due := met.latency.TotalCount(); due < 850 || due > 1150 {
		t.Errorf("%d requests in the figures, want about 1,000", due)
	}
	// 400 of them wait, for 200 ms at the median: the slowest fifth for more.
	if got := met.ms(80); got < 150 || got > 400 {
		t.Errorf("four fifths were answered within %.0f ms, want about 200", got)
	}
	if got := met.ms(40); got > 50 {
		t.Errorf("two fifths took up to %.0f ms, want no wait", got)
	}
	if total(met.answers) != met.accepted() || met.unsent > 0 {
		t.Errorf("answers %v, %d unsent", met.answers, met.unsent)
	}
}

// A load without a rate has only those wait whose requests are under way.
func TestLoadWithoutARateWaitsForTheServer(t *testing.T) {
	l := generator{connections: 4, measured: 500 * time.Millisecond}
	met := loadOn(t, l, stalls(100*time.Millisecond, 300*time.Millisecond))
	if got := met.ms(90); got > 50 {
		t.Errorf("nine tenths took up to %.0f ms, with 4 requests under way", got)
	}
	if got := met.ms(100); got < 200 {
		t.Errorf("the longest took %.0f ms, want about 300", got)
	}
}

// What is never sent is in the figures with the time that it had waited.
func TestLoadCountsWhatItCouldNotSend(t *testing.T) {
	l := generator{connections: 2, rate: 1000, measured: 400 * time.Millisecond}
	met := loadOn(t, l, stalls(100*time.Millisecond, 600*time.Millisecond))
	if met.unsent < 200 || met.unsent > 400 {
		t.Errorf("%d unsent, want about 300", met.unsent)
	}
	if got, want := met.latency.TotalCount(), int64(met.unsent+total(met.answers)); got != want {
		t.Errorf("%d in the figures, want %d", got, want)
	}
	if got := met.ms(50); got < 100 {
		t.Errorf("half was answered within %.0f ms, with a server that halts to the end", got)
	}
}

// A connection that the server closes is an answer without a status, and is
// opened again.
func TestLoadOutlivesAClosedConnection(t *testing.T) {
	for _, l := range []generator{
		{connections: 3, measured: 200 * time.Millisecond},
		{connections: 3, measured: 200 * time.Millisecond, rate: 1000},
		{connections: 3, measured: 200 * time.Millisecond, anew: true},
	} {
		var asked atomic.Int32
		met := loadOn(t, l, func(w http.ResponseWriter, _ *http.Request) {
			switch asked.Add(1) {
			case 10:
				panic(http.ErrAbortHandler) // closes it
			case 20:
				w.Header().Set("Connection", "close") // after the answer
			}
			w.WriteHeader(http.StatusNoContent)
		})
		// One at least, and where the close and the next request cross another that
		// the server has not seen.
		if lost := met.answers[0]; lost < 1 || lost > 2 || met.accepted() != int(asked.Load())-1 || met.accepted() < 50 {
			t.Errorf("%+v: %d requests, answers %v", l, asked.Load(), met.answers)
		}
	}
}
