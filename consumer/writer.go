package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mailtally/mailtally/tracking"
)

// transactionBytes bounds a transaction by the size of its webhooks; 10,000 of the usual
// size fit.
const transactionBytes = 16 << 20

// writer applies its shares, as many at once as fit into a transaction.
type writer struct {
	*Consumer
	limit int // items in the next transaction: maxBatch, or fewer after a refusal or timeout; used only by its goroutine

	mu      sync.Mutex // guards the fields below, shared by Run and its goroutine
	more    *sync.Cond // on mu: a share is waiting, or there will be no more
	waiting []*share
	ended   bool
}

func newWriter(c *Consumer) *writer {
	w := &writer{Consumer: c, limit: c.maxBatch}
	w.more = sync.NewCond(&w.mu)
	return w
}

// startWriters starts all writers. The function it returns stops them and waits.
func (c *Consumer) startWriters(ctx context.Context) (stop func()) {
	var running sync.WaitGroup
	for _, w := range c.writers {
		running.Go(func() {
			for {
				shares := w.take()
				if len(shares) == 0 {
					return
				}
				w.work(ctx, shares)
			}
		})
	}
	return func() {
		for _, w := range c.writers {
			w.give(nil)
		}
		running.Wait()
	}
}

// give queues a share for the writer; nil means there will be no more.
func (w *writer) give(s *share) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s == nil {
		w.ended = true
	} else {
		w.waiting = append(w.waiting, s)
	}
	w.more.Signal()
}

// take waits for shares and takes the oldest: up to maxBatch records, but at least one
// share. It returns none once there will be no more.
func (w *writer) take() []*share {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.waiting) == 0 && !w.ended {
		w.more.Wait()
	}
	n, records := 0, 0
	for n < len(w.waiting) && (n == 0 || records+len(w.waiting[n].items) <= w.maxBatch) {
		records += len(w.waiting[n].items)
		n++
	}
	shares := w.waiting[:n:n]
	w.waiting = w.waiting[n:]
	return shares
}

// work processes shares as far as it can, except those whose batch is to be skipped.
func (w *writer) work(ctx context.Context, shares []*share) {
	var items []*item
	for _, s := range shares {
		if s.batch.take(&w.yield) {
			for i := range s.items {
				if !s.items[i].done { // no control record
					items = append(items, &s.items[i])
				}
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	if err := w.workOff(ctx, items); err != nil {
		shares[0].err = err
		w.yield.Store(true) // Run makes the rest be fetched again
	}
	// End the newest first: by the time Run sees the oldest end, all have ended.
	for _, s := range slices.Backward(shares) {
		s.end()
	}
}

// workOff processes items from the front: PostgreSQL commits the events, then Kafka
// acknowledges the dead letters of the rest. An error stops it.
//
// All go into one transaction if possible. If PostgreSQL refuses a row for good, or takes
// too long, the number of items is halved, until the row is alone, which makes it a dead
// letter, or the database keeps up. The number is remembered, so that the next
// transaction does not start over.
func (w *writer) workOff(ctx context.Context, items []*item) error {
	for len(items) > 0 {
		n := w.fit(items)
		alone, err := w.apply(ctx, items[:n])
		var refusal *tracking.RefusedError
		switch {
		case errors.As(err, &refusal) && slices.ContainsFunc(items[:n], func(i *item) bool { return i.record == nil }):
			w.keepRecords.Store(true)
			w.metrics.retries.WithLabelValues(tracking.RetryOther).Inc()
			return fmt.Errorf("fetching the records again, since one must become a dead letter: %w", err)
		case errors.As(err, &refusal):
			w.limit = n / 2 // n > 1: a single refused event is no error
			continue
		case err != nil && tracking.RetryReason(err) == tracking.RetryTimeout:
			w.limit = max(1, n/2)
			return err
		case err != nil:
			return err
		}
		if err := w.deadLetter(ctx, items[:n]); err != nil {
			w.metrics.retries.WithLabelValues(retryDeadLetter).Inc()
			return err
		}
		items = items[n:]
		if !alone { // refused rows seldom come alone
			w.limit = min(w.limit+w.limit/4+1, w.maxBatch)
		}
	}
	return nil
}

// fit is how many of items fit into the next transaction.
func (w *writer) fit(items []*item) int {
	n, bytes := 0, 0
	for n < min(w.limit, len(items)) && (n == 0 || bytes < transactionBytes) {
		bytes += items[n].bytes
		n++
	}
	return n
}

// apply applies the events of items in one transaction. alone says that there was only
// one event, and that PostgreSQL refuses it for good; it is marked as dropped. If it was
// among others, the error is a *[tracking.RefusedError].
func (w *writer) apply(ctx context.Context, items []*item) (alone bool, err error) {
	events := make([]tracking.Event, 0, len(items))
	var last *item
	for _, i := range items {
		if i.why == nil {
			events = append(events, i.event)
			last = i
		}
	}
	if len(events) == 0 {
		return false, nil
	}
	start := time.Now()
	result, err := w.store.Apply(ctx, events)
	var refusal *tracking.RefusedError
	switch {
	case err == nil:
		w.window.applied(items, result)
		w.metrics.observeApplied(items, time.Since(start))
		w.databaseAnswered()
	case errors.As(err, &refusal) && len(events) == 1 && last.record != nil:
		last.why = &tracking.DropError{Reason: tracking.Refused, Type: events[0].Type, Detail: refusal.Detail()}
		return true, nil
	case refusal == nil:
		reason := tracking.RetryReason(err)
		w.metrics.retries.WithLabelValues(reason).Inc()
		if !errors.Is(ctx.Err(), context.Canceled) { // the member itself did not give up
			w.databaseFailed(start, reason, err)
		}
	}
	return false, err
}
