package main

import (
	"context"
	"math"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// generator sends HTTP requests to a server on loopback. It is one thread that waits
// for all connections at once and only copies bytes: it shares the machine with what it
// measures, and a client as expensive as the server would halve the result.
type generator struct {
	addr        string
	connections int
	// rate is in requests per second, due at random moments (a Poisson process)
	// whatever the server does. 0 means that each connection sends its next request
	// when the last has been answered.
	rate float64
	// request returns the bytes of the i-th request, due at that time. They must not
	// change until the next call.
	request func(i int, due time.Time) []byte
	// After warmup, answers are measured for this long.
	warmup, measured time.Duration
}

// loaded is what a load met with.
type loaded struct {
	sent         int       // all requests; each was answered 2xx
	from, until  time.Time // what was measured is between these
	acknowledged int       // answers while it was measured
	// latencies are those of the requests that were due while it was measured. With a
	// rate, they count from when the request was due, not from when a connection was
	// free to send it: a server that stalls for a second has delayed everybody who came
	// in that second.
	latencies []time.Duration
	// unsent requests were due but never sent, as all connections were still waiting at
	// the end. latencies includes them, with the time that they had waited by then.
	unsent int
}

// record notes how long a request took that was due while it is measured.
func (l *loaded) record(due, now time.Time) {
	if !due.Before(l.from) && due.Before(l.until) {
		l.latencies = append(l.latencies, now.Sub(due))
	}
}

// ms is the quantile of the latencies in ms; NaN if there are none.
func (l *loaded) ms(part float64) float64 {
	if len(l.latencies) == 0 {
		return math.NaN()
	}
	slices.Sort(l.latencies)
	return ms(l.latencies[int(part*float64(len(l.latencies)-1))])
}

// load sends the load, and also returns the CPU time, in seconds, that each of these
// processes used while it was measured.
func (l generator) load(ctx context.Context, pids ...int) (met *loaded, used []float64, err error) {
	used = make([]float64, len(pids))
	both, ctx := errgroup.WithContext(ctx) // where the one fails, the other ends
	both.Go(func() (err error) {
		met, err = l.run(ctx)
		return err
	})
	both.Go(func() error {
		for _, wait := range []time.Duration{l.warmup, l.measured} {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return ctx.Err()
			}
			for i, pid := range pids {
				total, err := cpu(pid)
				if err != nil {
					return err
				}
				used[i] = total - used[i] // at first the total so far
			}
		}
		return nil
	})
	err = both.Wait()
	return met, used, err
}
