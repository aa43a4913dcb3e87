package simulate

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"
)

func TestNewNamesAllThatIsWrong(t *testing.T) {
	_, err := New(Config{URL: "localhost:8080", Rate: math.NaN(), Connections: -1, Total: -2})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`URL "localhost:8080"`, "rate NaN", "connections -1", "total -2", "secret is empty"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	ok := Config{URL: "http://127.0.0.1:1/webhooks/resend", Secret: testSecret, Rate: 1}
	if _, err := New(ok); err != nil {
		t.Errorf("all right, but: %v", err)
	}
	for name, change := range map[string]func(*Config){
		"no URL":    func(c *Config) { c.URL = "" },
		"no host":   func(c *Config) { c.URL = "http:///webhooks" },
		"bad URL":   func(c *Config) { c.URL = "http://a b/" },
		"scheme":    func(c *Config) { c.URL = "ftp://localhost/" },
		"zero rate": func(c *Config) { c.Rate = 0 },
		"negative":  func(c *Config) { c.Rate = math.Inf(-1) },
		"too many":  func(c *Config) { c.Connections = maxConnections + 1 },
	} {
		c := ok
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// receiver verifies with an independent implementation.
type receiver struct {
	verifier *standardwebhooks.Webhook
	answer   func(w http.ResponseWriter, r *http.Request) // for what verifies; nil for 200

	mu       sync.Mutex
	ids      map[string]int // requests by svix-id
	rejected int
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	return &receiver{verifier: verifier, ids: make(map[string]int)}
}

func (rc *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	err = rc.verifier.Verify(body, standardHeader(r.Header))
	rc.mu.Lock()
	rc.ids[r.Header.Get("svix-id")]++
	if err != nil {
		rc.rejected++
	}
	rc.mu.Unlock()
	switch {
	case err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" ||
		!strings.HasPrefix(r.UserAgent(), "Svix-Webhooks/"):
		w.WriteHeader(http.StatusUnauthorized)
	case rc.answer != nil:
		rc.answer(w, r)
	}
}

// direct serves requests without a network, so that synctest's clock governs
// everything. An answer with the header No-Answer means no answer.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if rec.Header().Get("No-Answer") != "" {
		return nil, errors.New("connection reset")
	}
	return rec.Result(), nil
}

func newSimulator(t *testing.T, cfg Config) *Simulator {
	t.Helper()
	cfg.Secret = testSecret
	if cfg.URL == "" {
		cfg.URL = "http://producer.example/webhooks/resend"
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTotalIsExact(t *testing.T) {
	const total, connections = 5000, 8
	rc := newReceiver(t)
	var active, most, dialled atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := active.Add(1)
		for {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		rc.ServeHTTP(w, r)
		_, _ = io.WriteString(w, strings.Repeat("a body to be read ", 500))
		active.Add(-1)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			dialled.Add(1)
		}
	}
	server.Start()
	before := goleak.IgnoreCurrent()
	s := newSimulator(t, Config{URL: server.URL + "/webhooks/resend", Rate: Unlimited, Connections: connections, Total: total, Seed: 42, Faults: true})
	err := s.Run(t.Context())
	goleak.VerifyNone(t, before) // no worker and no connection, while the server still runs
	server.Close()
	if err != nil {
		t.Fatal(err)
	}

	want := make(map[string]int)
	unauthorized := 0
	g := NewGenerator(s.Seed(), true, nil)
	for range total {
		w := g.Next()
		want[w.ID]++
		if !w.Kind.Authentic() {
			unauthorized++
		}
	}
	for id, n := range want {
		if rc.ids[id] != n {
			t.Errorf("%s came %d times, want %d", id, rc.ids[id], n)
		}
	}
	if len(rc.ids) != len(want) || rc.rejected != unauthorized {
		t.Errorf("%d ids and %d rejected, want %d and %d", len(rc.ids), rc.rejected, len(want), unauthorized)
	}
	got := s.Totals()
	if want := (Totals{Webhooks: total, Sent: total, Accepted: total - uint64(unauthorized), Unauthorized: uint64(unauthorized)}); got != want {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if m := most.Load(); m > connections || m < 2 {
		t.Errorf("%d requests at once, want up to %d", m, connections)
	}
	// net/http abandons a connection whose writer has not reported within 50 ms of the
	// answer (maxWriteWaitBeforeConnReuse), so on a starved machine there may be a few
	// more connections than concurrent requests.
	if n := dialled.Load(); n > total/10 {
		t.Errorf("%d connections for %d requests: they aren't kept alive", n, total)
	}
}

// A webhook that is not accepted is sent again, newly signed and later each time, until
// it is accepted.
func TestSendsAgainUntilAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const total = 60
		rc := newReceiver(t)
		attempts := make(map[string][]time.Time)
		timestamps := make(map[string]map[string]bool)
		var mu sync.Mutex
		rc.answer = func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			id := r.Header.Get("svix-id")
			attempts[id] = append(attempts[id], time.Now())
			if timestamps[id] == nil {
				timestamps[id] = make(map[string]bool)
			}
			timestamps[id][r.Header.Get("svix-timestamp")] = true
			switch len(attempts[id]) {
			case 1:
				w.Header().Set("Retry-After", "5")
				w.WriteHeader(http.StatusServiceUnavailable)
			case 2:
				w.WriteHeader(http.StatusTooManyRequests)
			case 3:
				w.Header().Set("No-Answer", "1")
			case 4:
				w.WriteHeader(http.StatusInternalServerError)
			}
		}
		s := newSimulator(t, Config{Rate: 10, Total: total, Seed: 1, Client: &http.Client{Transport: direct{rc}}})
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for id, at := range attempts {
			// A redelivery in the traffic may add one more.
			if len(at) < 5 {
				t.Errorf("%s: %d attempts", id, len(at))
			}
			if len(at) == 5 {
				if d := at[1].Sub(at[0]); d < 5*time.Second {
					t.Errorf("again after %v, asked for 5 s", d)
				}
				if d := at[4].Sub(at[3]); d < 2*time.Second {
					t.Errorf("fourth pause %v", d)
				}
				if len(timestamps[id]) < 4 {
					t.Errorf("%d timestamps of 5 attempts", len(timestamps[id]))
				}
			}
		}
		got := s.Totals()
		ids := uint64(len(attempts))
		want := Totals{Webhooks: total, Sent: total + 4*ids, Resent: 4 * ids, Accepted: total, Refused: 3 * ids, Failed: ids}
		if got != want {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	})
}

// Each failure is told with its reason, and so is what became of webhooks that were never
// answered: the first was, with a 503, and the last is cut off by the end.
func TestFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var n atomic.Int64
		down := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				http.Error(w, "not stored", http.StatusServiceUnavailable)
				return
			}
			if time.Since(start) > 9500*time.Millisecond {
				<-r.Context().Done()
			}
			w.Header().Set("No-Answer", "1")
		})
		var mu sync.Mutex
		told := make(map[int]string)
		s := newSimulator(t, Config{Rate: 1, Client: &http.Client{Transport: direct{down}}, Failed: func(status int, reason string) {
			mu.Lock()
			defer mu.Unlock()
			told[status] = reason
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 10500*time.Millisecond)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if got := s.Totals(); got.Webhooks < 10 || got.Abandoned != got.Webhooks || got.Ignored != got.Webhooks-2 {
			t.Errorf("%+v", got)
		}
		if len(told) != 2 || told[503] != "503 Service Unavailable: not stored" || !strings.HasSuffix(told[0], "connection reset") {
			t.Errorf("told %v", told)
		}
	})
}

func TestContradictingAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, seed = 1000, 1
		var forged uint64
		for _, w := range take(NewGenerator(seed, true, nil), n) {
			if !w.Kind.Authentic() {
				forged++
			}
		}
		if forged == 0 {
			t.Fatal("none forged")
		}
		for status, want := range map[int]Totals{
			400: {Webhooks: n, Sent: n, Refused: n, Unexpected: n},
			307: {Webhooks: n, Sent: n, Refused: n, Unexpected: n},
			401: {Webhooks: n, Sent: n, Unauthorized: n, Unexpected: n - forged},
			202: {Webhooks: n, Sent: n, Accepted: n, Unexpected: forged},
		} {
			answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(status)
			})
			var told atomic.Uint64
			s := newSimulator(t, Config{Rate: Unlimited, Total: n, Seed: seed, Faults: true, Client: &http.Client{Transport: direct{answer}}, Failed: func(as int, reason string) {
				told.Add(1)
				if as != status || !strings.HasPrefix(reason, strconv.Itoa(status)+" ") {
					t.Errorf("answered %d, told %d, %q", status, as, reason)
				}
			}})
			if err := s.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := s.Totals(); got != want {
				t.Errorf("all answered %d: %+v\nwant %+v", status, got, want)
			}
			if told.Load() != want.Unexpected {
				t.Errorf("all answered %d: told of %d, want %d", status, told.Load(), want.Unexpected)
			}
		}
	})
}

func TestEndOfContext(t *testing.T) {
	rc := newReceiver(t)
	ctx, cancel := context.WithCancel(t.Context())
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc.ServeHTTP(w, r)
		if n.Add(1) == 500 {
			cancel()
		}
	}))
	before := goleak.IgnoreCurrent()
	s := newSimulator(t, Config{URL: server.URL, Rate: math.Inf(1)})
	err := s.Run(ctx)
	goleak.VerifyNone(t, before)
	server.Close()
	if err != nil {
		t.Errorf("without a total this is the regular end, but: %v", err)
	}
	got := s.Totals()
	// What was in flight is answered, not cut off.
	if got.Webhooks < 500 || got.Accepted != got.Webhooks || got.Sent != got.Webhooks || int64(got.Sent) != n.Load() {
		t.Errorf("%d arrived, %+v", n.Load(), got)
	}
}

// A receiver that does not answer delays the end by the grace period, and no longer.
func TestEndOfContextWithRequestsHanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		s := newSimulator(t, Config{Rate: 100, Connections: 4, Total: 50, Client: &http.Client{Transport: direct{hang}}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		err := s.Run(ctx)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended before its total: %v", err)
		}
		if d := time.Since(start); d != 10*time.Second+grace {
			t.Errorf("took %v", d)
		}
		if got, want := s.Totals(), (Totals{Webhooks: 4, Sent: 4, Failed: 4, Abandoned: 4}); got.Skipped == 0 {
			t.Errorf("nothing skipped: %+v", got)
		} else if got.Skipped = 0; got != want {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	})
}

// Webhooks that wait for a retry when ctx ends are counted.
func TestAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		s := newSimulator(t, Config{Rate: 10, Client: &http.Client{Transport: direct{down}}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if got := s.Totals(); got.Webhooks < 99 || got.Abandoned != got.Webhooks || got.Refused != got.Sent || got.Sent != got.Webhooks+got.Resent {
			t.Errorf("%+v", got)
		}
	})
}

// Retries that fall due while every connection is busy wait for one. (If the loop were
// spinning, the bubble's clock would not advance.)
func TestDueWhileBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(2 * time.Second)
			if n.Add(1) <= 5 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		s := newSimulator(t, Config{Rate: 10, Connections: 1, Total: 5, Client: &http.Client{Transport: direct{slow}}})
		start := time.Now()
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d < 20*time.Second || d > 25*time.Second {
			t.Errorf("ten requests of two seconds took %v", d)
		}
	})
}

// A request is given up after the provider's 15 s, and sent again.
func TestAnswerTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		hangOnce := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				<-r.Context().Done()
			}
		})
		s := newSimulator(t, Config{Rate: 1, Total: 1, Client: &http.Client{Transport: direct{hangOnce}}})
		start := time.Now()
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d < answerTimeout || d > answerTimeout+time.Second {
			t.Errorf("took %v", d)
		}
		if got, want := s.Totals(), (Totals{Webhooks: 1, Sent: 2, Resent: 1, Accepted: 1, Failed: 1}); got != want {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	})
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Time
		slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			at = append(at, time.Now())
			mu.Unlock()
			time.Sleep(30 * time.Millisecond) // the bubble's time: six at once on the average
		})
		s := newSimulator(t, Config{Rate: 200, Client: &http.Client{Transport: direct{slow}}})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if got := s.Totals(); got.Accepted < 5998 || got.Accepted > 6002 || got.Sent != got.Accepted || got.Skipped != 0 {
			t.Errorf("200 a second for 30 s: %+v", got)
		}
		for i := 200; i < len(at); i++ {
			if d := at[i].Sub(at[i-200]); d < 990*time.Millisecond || d > 1010*time.Millisecond {
				t.Fatalf("200 within %v", d)
			}
		}
	})
}

// A receiver that stalls misses what fell due beyond a second, and is not flooded
// afterwards.
func TestRateAfterStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		perSecond := make(map[int]int)
		var mu sync.Mutex
		stall := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			passed := time.Since(start)
			mu.Lock()
			perSecond[int(passed.Seconds())]++
			mu.Unlock()
			if passed > 2*time.Second && passed < 7*time.Second {
				time.Sleep(7*time.Second - passed)
			}
		})
		s := newSimulator(t, Config{Rate: 1000, Client: &http.Client{Transport: direct{stall}}})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		got := s.Totals()
		if got.Skipped < 3900 || got.Skipped > 4100 || math.Abs(float64(got.Webhooks+got.Skipped)-20_000) > 50 {
			t.Errorf("20 s of 1000 with 5 s of stall: %+v", got)
		}
		for second := 7; second < 20; second++ {
			if n := perSecond[second]; n < 990 || n > 1275 {
				t.Errorf("second %d: %d webhooks", second, n)
			}
		}
	})
}

// While too many wait for a retry no new ones are made, and none is lost.
func TestWaitingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		down := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if time.Since(start) < 2*time.Second {
				w.WriteHeader(http.StatusBadGateway)
			}
		})
		const total = maxWaiting + 5000
		s := newSimulator(t, Config{Rate: Unlimited, Total: total, Client: &http.Client{Transport: direct{down}}})
		var during Totals
		go func() {
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			during = s.Totals()
		}()
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if during.Webhooks < maxWaiting || during.Webhooks > maxWaiting+defaultConnections || during.Resent == 0 {
			t.Errorf("while down: %+v", during)
		}
		if got := s.Totals(); got.Webhooks != total || got.Accepted != total || got.Abandoned != 0 {
			t.Errorf("in the end: %+v", got)
		}
	})
}
