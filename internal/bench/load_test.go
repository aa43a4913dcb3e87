package main

import (
	"math"
	"testing"
	"time"
)

func TestDuePaceKeepsItsRate(t *testing.T) {
	const rate, n = 2000, 100_000
	start := time.Now()
	p := newDuePace(rate, start)
	gaps, squares, last := 0.0, 0.0, start
	for range n {
		due := p.step()
		gap := due.Sub(last).Seconds() * rate
		gaps += gap
		squares += gap * gap
		last = due
	}
	mean := gaps / n
	if math.Abs(mean-1) > .02 {
		t.Errorf("due %.3f mean gaps apart, want 1", mean)
	}
	// As at random: the gaps spread by as much as they are long.
	if spread := math.Sqrt(squares/n - mean*mean); math.Abs(spread-1) > .02 {
		t.Errorf("gaps spread by %.3f of their mean, want 1", spread)
	}
}

func TestParseAnswer(t *testing.T) {
	const body = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 5\r\n\r\nlater"
	for answer, want := range map[string]struct {
		status int
		whole  bool
	}{
		"": {}, "HTTP/1.1 204 No": {}, "HTTP/1.1 204 No Content\r\n\r": {},
		"HTTP/1.1 204 No Content\r\n\r\n":                        {204, true},
		"HTTP/1.1 204 No Content\r\nDate: today\r\n\r\n":         {204, true},
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":           {200, true},
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no":          {200, false},
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n\r\nok": {200, true},
		body: {503, true}, body[:len(body)-1]: {503, false},
	} {
		status, whole, err := parseAnswer(append(make([]byte, 0, 4096), answer...))
		if err != nil || status != want.status || whole != want.whole {
			t.Errorf("%q: status %d, whole %t, %v, want %d, %t", answer, status, whole, err, want.status, want.whole)
		}
	}
	for _, answer := range []string{"\r\n\r\n", "HTTP/1.1 abc Not A Number\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"} {
		if status, whole, err := parseAnswer([]byte(answer)); err == nil {
			t.Errorf("%q: status %d, whole %t, want an error", answer, status, whole)
		}
	}
	if _, _, err := parseAnswer(make([]byte, 64)[:64:64]); err == nil {
		t.Error("a head that fills the buffer is no error")
	}
}
