package simulate

import (
	"container/heap"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	// maxWaiting bounds the webhooks that wait for a retry. While that many wait no new
	// ones are made, so none is ever dropped.
	maxWaiting = 10_000

	// The provider's own pauses are 5 s, 5 min, 30 min and up to 10 h: too long to
	// watch a recovery.
	firstBackoff  = 500 * time.Millisecond
	maxBackoff    = 30 * time.Second
	maxRetryAfter = 10 * time.Second
)

// delivery is a webhook and its next attempt.
type delivery struct {
	webhook  Webhook
	attempts int       // made so far
	ignored  bool      // none of them was answered
	due      time.Time // of the next one, once there was a first
}

// backoff returns the pause after that many attempts: doubling, with jitter of half of
// it either way, and no shorter than the receiver asked for.
func backoff(attempts int, retryAfter time.Duration) time.Duration {
	d := maxBackoff
	if attempts < 8 {
		d = min(d, firstBackoff<<(attempts-1))
	}
	d = d/2 + rand.N(d)
	if retryAfter > d {
		// Spread, so that webhooks refused at one moment do not all return at one
		// moment.
		d = retryAfter + rand.N(retryAfter/4+1)
	}
	return d
}

// retryAfter reads the header, as seconds or as a date. Absurdly long values are
// capped: there is one receiver under test, and the run should see it recover.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(v, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// retryQueue is a heap by due.
type retryQueue []delivery

func (q *retryQueue) add(d delivery) { heap.Push(q, d) }
func (q *retryQueue) take()          { heap.Pop(q) }

func (q retryQueue) Len() int           { return len(q) }
func (q retryQueue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q retryQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *retryQueue) Push(x any)        { *q = append(*q, x.(delivery)) }
func (q *retryQueue) Pop() any {
	last := len(*q) - 1
	d := (*q)[last]
	(*q)[last] = delivery{} // release the body
	*q = (*q)[:last]
	return d
}
