// Package simulate makes the traffic of an email provider: realistic, signed
// Resend webhooks, sent to a producer at a rate or as fast as it can.
//
// A [Generator] makes the webhooks, a [Signer] signs them, a [Simulator] sends
// them over HTTP and sends again what is not accepted, as providers do.
package simulate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// grace is how long requests in flight may still take when the run ends: if they were
// cut off, nobody would know whether they were accepted.
const grace = time.Second

// Simulator sends webhooks. It is made for one Run.
type Simulator struct {
	url         string
	rate        float64
	connections int
	total       uint64
	seed        uint64
	signer      *Signer
	generator   *Generator
	failed      func(status int, reason string)
	client      *http.Client
	ownClient   bool
	counters    counters
}

// New makes a Simulator. An error names all that is wrong with cfg.
func New(cfg Config) (*Simulator, error) {
	signer, err := NewSigner(cfg.Secret)
	if err := errors.Join(cfg.validate(), err); err != nil {
		return nil, fmt.Errorf("new simulator: %w", err)
	}
	s := &Simulator{
		url:         cfg.URL,
		rate:        cfg.Rate,
		connections: cfg.Connections,
		total:       uint64(cfg.Total),
		seed:        cfg.Seed,
		signer:      signer,
		failed:      cfg.Failed,
	}
	if s.failed == nil {
		s.failed = func(int, string) {}
	}
	if s.rate > maxRate {
		s.rate = math.Inf(1)
	}
	if s.connections == 0 {
		s.connections = defaultConnections
	}
	if s.seed == 0 {
		s.seed = newSeed()
	}
	s.generator = NewGenerator(s.seed, cfg.Faults, time.Now)
	if cfg.Client == nil {
		s.client, s.ownClient = newClient(s.connections), true
	} else {
		c := *cfg.Client
		s.client = &c
	}
	// To Svix a redirect is a failure.
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s, nil
}

// Seed returns the seed in use, which reproduces the traffic.
func (s *Simulator) Seed() uint64 { return s.seed }

// Run sends until ctx ends or the configured total is settled, and returns
// when all of its goroutines have. When ctx ends nothing more is sent, and
// requests in flight have a second to be answered.
//
// New webhooks fall due at the rate, whatever the receiver does; retries come on
// top. While all connections wait for answers nothing can be sent: up to a
// second's worth is made up for afterwards, at 1.25 times the rate, and the rest
// is dropped and counted as Skipped. After a 5xx, a 429 or no answer the webhook
// is sent again, newly signed, with exponential backoff and jitter, until it is
// accepted or ctx ends. Any other answer settles it.
//
// It returns nil if the total is settled, or if there is none; an error that
// wraps ctx's if that ended first.
func (s *Simulator) Run(ctx context.Context) error {
	// Requests outlive ctx by the grace period.
	inFlight, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()

	work := make(chan delivery)
	done := make(chan outcome)
	var workers sync.WaitGroup
	for range s.connections {
		workers.Go(func() {
			for d := range work {
				done <- s.send(inFlight, d)
			}
		})
	}
	pending, err := s.dispatch(ctx, work, done)
	close(work)

	defer time.AfterFunc(grace, cut).Stop()
	for range pending {
		if o := <-done; o.again {
			s.counters.abandon(o.delivery)
		}
	}
	workers.Wait()
	if s.ownClient {
		s.client.CloseIdleConnections()
	}
	return err
}

// dispatch hands out deliveries until all are settled or ctx has ended, and
// returns how many are with the workers then. Only dispatch uses the generator,
// the pacer and the retry queue.
func (s *Simulator) dispatch(ctx context.Context, work chan<- delivery, done <-chan outcome) (pending int, err error) {
	var (
		pacer   = newPacer(s.rate, time.Now())
		retries retryQueue
		made    uint64
		fresh   *delivery // made, due, and not yet handed out
		timer   = time.NewTimer(0)
	)
	defer timer.Stop()

	for {
		more := s.total == 0 || made < s.total
		if !more && fresh == nil && pending == 0 && len(retries) == 0 {
			return 0, nil
		}
		now := time.Now()
		if more || fresh != nil {
			pacer.advance(now)
			s.counters.skipped.Store(uint64(pacer.skipped))
		}
		if ctx.Err() != nil {
			s.counters.abandon(retries...)
			if s.total == 0 {
				return pending, nil
			}
			return pending, fmt.Errorf("simulate %d webhooks: %w", s.total, context.Cause(ctx))
		}

		var (
			out  chan<- delivery // nil, which never proceeds, unless something is due
			next delivery
			wait = time.Duration(math.MaxInt64)
		)
		if len(retries) > 0 {
			wait = max(retries[0].due.Sub(now), 0)
		}
		resend := wait == 0
		if resend {
			out, next = work, retries[0]
		} else {
			if fresh == nil && more && len(retries) < maxWaiting {
				if until := pacer.wait(); until > 0 {
					wait = min(wait, until)
				} else {
					pacer.spend()
					made++
					fresh = &delivery{webhook: s.generator.Next()}
				}
			}
			if fresh != nil {
				out, next = work, *fresh
			}
		}
		if out == nil {
			timer.Reset(wait)
		} else {
			timer.Stop() // what is due waits for a worker, not for the timer
		}

		select {
		case out <- next:
			pending++
			if resend {
				retries.take()
				s.counters.resent.Add(1)
			} else {
				fresh = nil
				s.counters.webhooks.Add(1)
			}
		case o := <-done:
			pending--
			if o.again {
				retries.add(o.delivery)
			}
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// outcome is what became of an attempt: settled, or to be retried.
type outcome struct {
	delivery delivery
	again    bool
}

func (s *Simulator) send(ctx context.Context, d delivery) outcome {
	c := &s.counters
	c.sent.Add(1)
	d.attempts++
	status, header, text, err := s.post(ctx, d.webhook)
	unexpected := func() {
		c.unexpected.Add(1)
		s.failed(status, text)
	}
	switch {
	case err != nil:
		c.failed.Add(1)
		if ctx.Err() == nil { // or it was the run's end that cut it off
			d.ignored = d.ignored || d.attempts == 1
			s.failed(0, err.Error())
		}
	case status >= 200 && status < 300:
		c.accepted.Add(1)
		if !d.webhook.Kind.Authentic() {
			unexpected()
		}
		return outcome{}
	case status == http.StatusUnauthorized:
		c.unauthorized.Add(1)
		if d.webhook.Kind.Authentic() {
			unexpected()
		}
		return outcome{}
	case status >= 500 || status == http.StatusTooManyRequests:
		c.refused.Add(1)
		d.ignored = false
		s.failed(status, text)
	default:
		c.refused.Add(1)
		unexpected()
		return outcome{}
	}
	now := time.Now()
	d.due = now.Add(backoff(d.attempts, retryAfter(header, now)))
	return outcome{delivery: d, again: true}
}

// post returns the answer's status, header and, for people, what it says.
func (s *Simulator) post(ctx context.Context, w Webhook) (status int, header http.Header, text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(w.Body))
	if err != nil {
		return 0, nil, "", err
	}
	req.Header = s.signer.Header(w, time.Now())
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	// The status is known, so an error from here on changes nothing.
	text = resp.Status
	if resp.StatusCode >= 300 {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		if said := strings.TrimSpace(string(body)); said != "" {
			text += ": " + said
		}
	}
	// Read to the end, or the connection can't be reused.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, resp.Header, text, nil
}

// Totals count from the start of the run. After it
//
//	Sent = Webhooks + Resent = Accepted + Unauthorized + Refused + Failed
type Totals struct {
	Webhooks     uint64 // begun, each once
	Sent         uint64 // requests
	Resent       uint64 // of these, retries
	Accepted     uint64 // answered 2xx
	Unauthorized uint64 // answered 401: right for forged and stale ones
	Refused      uint64 // answered anything else
	Failed       uint64 // not answered
	Abandoned    uint64 // webhooks that still waited for a retry when ctx ended
	Ignored      uint64 // of these, webhooks that were never answered
	Skipped      uint64 // fell due while nothing could be sent, and were dropped
	// Unexpected are the answers that contradict what was sent: 2xx to a
	// forged or stale webhook, 401 to any other, and to all of them 3xx, or a 4xx
	// other than 401 and 429.
	Unexpected uint64
}

type counters struct {
	webhooks, sent, resent, accepted, unauthorized, refused, failed, abandoned, ignored, skipped, unexpected atomic.Uint64
}

func (c *counters) abandon(waiting ...delivery) {
	for _, d := range waiting {
		c.abandoned.Add(1)
		if d.ignored {
			c.ignored.Add(1)
		}
	}
}

// Totals may be called at any time. During the run the counts are not all of
// the same moment.
func (s *Simulator) Totals() Totals {
	c := &s.counters
	return Totals{
		Webhooks:     c.webhooks.Load(),
		Sent:         c.sent.Load(),
		Resent:       c.resent.Load(),
		Accepted:     c.accepted.Load(),
		Unauthorized: c.unauthorized.Load(),
		Refused:      c.refused.Load(),
		Failed:       c.failed.Load(),
		Abandoned:    c.abandoned.Load(),
		Ignored:      c.ignored.Load(),
		Skipped:      c.skipped.Load(),
		Unexpected:   c.unexpected.Load(),
	}
}
