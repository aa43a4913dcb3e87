package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// generator is HTTP requests sent to a server on loopback. It is one thread that
// waits for all connections at once and only copies bytes: on a machine that the
// generator shares with what it measures, a client that costs as much as the
// server would halve the result.
type generator struct {
	addr        string
	connections int
	// anew is a new connection for each request, instead of keeping them.
	anew bool
	// rate is of requests a second, due at random moments (a Poisson process) and
	// whatever the server does; 0 sends one when the one before has its answer, on
	// each connection.
	rate float64
	// request gives the bytes of the i-th request, which is due at that time. They
	// are to stay as they are until the next call.
	request func(i int, due time.Time) []byte
	// What is answered from warmup on is measured, for so long.
	warmup, measured time.Duration
}

// loaded is what a load met with.
type loaded struct {
	// answers counts all answers by status, those of the warm-up included. A
	// connection that ended before its answer counts with status 0; what was sent
	// on it the server may have done or not.
	answers map[int]int
	// What was measured is between these.
	from, until time.Time
	// acknowledged is the number of 2xx while it was measured.
	acknowledged int
	// latency is in nanoseconds, of those requests that were due while it was
	// measured. Under a rate it is counted from the moment when the request was
	// due, not from when a connection was free to send it: a server that halts for
	// a second has made everybody wait who came in that second.
	latency *hdrhistogram.Histogram
	// unsent fell due and were never sent, as all connections were waiting at the
	// end. They are in latency with the time they had waited by then.
	unsent int
}

// accepted is the number of 2xx, those of the warm-up included.
func (l loaded) accepted() int {
	n := 0
	for status, answers := range l.answers {
		if status/100 == 2 {
			n += answers
		}
	}
	return n
}

// ms is the latency in ms that so many percent of the requests had at most.
func (l loaded) ms(percent float64) float64 {
	return float64(l.latency.ValueAtQuantile(percent)) / 1e6
}

func newLoaded() *loaded {
	// A microsecond to a minute, to three digits.
	return &loaded{answers: make(map[int]int), latency: hdrhistogram.New(1e3, 60e9, 3)}
}

func (l *loaded) record(latency time.Duration) {
	// Beyond a minute it is a minute.
	l.latency.RecordValue(min(int64(latency), l.latency.HighestTrackableValue()))
}

// duePace is when requests are due.
type duePace struct {
	rng  *rand.Rand
	rate float64
	next time.Time
}

func newDuePace(rate float64, start time.Time) *duePace {
	return &duePace{rng: rand.New(rand.NewPCG(3, 4)), rate: rate, next: start}
}

// step gives the time when the next request is due.
func (p *duePace) step() time.Time {
	due := p.next
	p.next = due.Add(time.Duration(p.rng.ExpFloat64() / p.rate * float64(time.Second)))
	return due
}

// appendRequest appends a POST as it goes over the wire.
func appendRequest(b []byte, addr, path string, header http.Header, body []byte, anew bool) []byte {
	b = fmt.Appendf(b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", path, addr, len(body))
	if anew {
		b = append(b, "Connection: close\r\n"...)
	}
	for name, values := range header {
		b = fmt.Appendf(b, "%s: %s\r\n", name, values[0])
	}
	b = append(b, "\r\n"...)
	return append(b, body...)
}

var (
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("\r\nContent-Length: ")
)

// parseAnswer gives the status of an answer, once it is whole.
func parseAnswer(answer []byte) (status int, whole bool, err error) {
	head, rest, found := bytes.Cut(answer, headEnd)
	if !found {
		if len(answer) == cap(answer) {
			return 0, false, fmt.Errorf("an answer's head is too long: %q", answer)
		}
		return 0, false, nil
	}
	if len(head) < len("HTTP/1.1 204") {
		return 0, false, fmt.Errorf("not an answer: %q", answer)
	}
	if status, err = strconv.Atoi(string(head[9:12])); err != nil {
		return 0, false, fmt.Errorf("not an answer: %q", answer)
	}
	length := 0
	if _, after, found := bytes.Cut(head, contentLength); found {
		digits, _, _ := bytes.Cut(after, headEnd[:2])
		if length, err = strconv.Atoi(string(digits)); err != nil {
			return 0, false, fmt.Errorf("not an answer: %q", answer)
		}
	}
	return status, len(rest) >= length, nil
}
