package simulate

import (
	"net/http"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	for attempts := 1; attempts < 200; attempts++ {
		base := maxBackoff
		if attempts < 7 {
			base = min(base, firstBackoff<<(attempts-1))
		}
		seen := make(map[time.Duration]bool)
		for range 50 {
			d := backoff(attempts, 0)
			if d < base/2 || d > base*3/2 {
				t.Fatalf("backoff(%d) = %v, want %v within a half", attempts, d, base)
			}
			seen[d] = true
		}
		if len(seen) < 40 {
			t.Errorf("backoff(%d): no jitter", attempts)
		}
	}
	for range 50 {
		if d := backoff(1, 8*time.Second); d < 8*time.Second || d > 10*time.Second {
			t.Fatalf("asked for 8 s: %v", d)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"3":                             3 * time.Second,
		"-3":                            0,
		"soon":                          0,
		"86400":                         maxRetryAfter,
		"99999999999999999999999":       0,
		"Mon, 23 Nov 2026 12:00:04 GMT": 4 * time.Second,
		"Mon, 23 Nov 2026 11:00:00 GMT": 0,
		"Tue, 24 Nov 2026 12:00:00 GMT": maxRetryAfter,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("Retry-After %q: %v, want %v", value, got, want)
		}
	}
}

func TestRetryQueueGivesTheEarliest(t *testing.T) {
	var q retryQueue
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const n = 100
	for i := range n {
		q.add(delivery{due: start.Add(time.Duration(i*37%n) * time.Second)})
	}
	for i := range n {
		if want := start.Add(time.Duration(i) * time.Second); !q[0].due.Equal(want) {
			t.Fatalf("due %v, want %v", q[0].due, want)
		}
		q.take()
	}
}
