package main

import (
	"context"
	"math"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// generator is HTTP requests sent to a server on loopback. It is one thread that
// waits for all connections at once and only copies bytes: on a machine that the
// generator shares with what it measures, a client that costs as much as the
// server would halve the result.
type generator struct {
	addr        string
	connections int
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
	sent         int       // all requests; each was answered 2xx
	from, until  time.Time // what was measured is between these
	acknowledged int       // answers while it was measured
	// latencies are of those requests that were due while it was measured. Under a
	// rate they are counted from the moment when the request was due, not from when a
	// connection was free to send it: a server that halts for a second has made
	// everybody wait who came in that second.
	latencies []time.Duration
	// unsent fell due and were never sent, as all connections were waiting at the
	// end. They are in latencies with the time they had waited by then.
	unsent int
}

// record notes how long a request took that was due while it is measured.
func (l *loaded) record(due, now time.Time) {
	if !due.Before(l.from) && due.Before(l.until) {
		l.latencies = append(l.latencies, now.Sub(due))
	}
}

// ms is the latency in ms that so large a part of the requests had at most: NaN if
// there were none.
func (l *loaded) ms(part float64) float64 {
	if len(l.latencies) == 0 {
		return math.NaN()
	}
	slices.Sort(l.latencies)
	return ms(l.latencies[int(part*float64(len(l.latencies)-1))])
}

// load sends the load, and gives also the CPU time, in seconds, that each of these
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
