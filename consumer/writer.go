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

// maxUnexplained is how many events in a row may fail alone, without being at fault, before
// a writer gives up.
const maxUnexplained = 3

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
	var items, suspects []*item
	for _, s := range shares {
		if s.batch.take(&w.yield) {
			for n := range s.items {
				switch i := &s.items[n]; {
				case i.done: // a control record
				case i.suspect:
					suspects = append(suspects, i)
				default:
					items = append(items, i)
				}
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	err := w.workOff(ctx, items)
	if err == nil && len(suspects) > 0 {
		usual := w.limit
		w.limit = 1 // if one of them is still not taken, it is the first
		err = w.workOff(ctx, suspects)
		w.limit = usual
	}
	if err != nil {
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
// All go into one transaction if possible. If PostgreSQL does not accept it, for a reason
// that may lie in a single row, or takes too long, the number of items is halved, until the
// event is alone or the database keeps up. The number is remembered, so that the next
// transaction does not start over. An event that is refused for good becomes a dead letter.
// Another holds up its partition, and the rest continues.
//
// This ends soon if it is the database after all: halving takes as many tries as the number
// has bits, and a few events in a row that fail alone, as any others would, stop it.
func (w *writer) workOff(ctx context.Context, items []*item) error {
	unexplained := 0 // events in a row
	for len(items) > 0 {
		n := w.fit(items)
		start := time.Now()
		only, err := w.apply(ctx, items[:n])
		if err != nil && ctx.Err() == nil && mayBeOneRow(err) {
			if only == nil {
				w.limit = n / 2
				continue
			}
			if !blamesEvent(err) && !only.suspect { // which are tried once each, and have back-offs of their own
				unexplained++
			}
			if unexplained < maxUnexplained {
				if !blamesEvent(err) {
					w.databaseFailed(start, tracking.RetryReason(err), err)
				}
				only.fault = err
				w.yield.Store(true) // Run makes the rest of its partition be fetched again
				items = slices.DeleteFunc(items, func(i *item) bool { return i.partition == only.partition && !i.before(only) })
				continue
			}
		}
		if err != nil {
			if tracking.RetryReason(err) == tracking.RetryTimeout {
				w.limit = max(1, n/2)
				if only != nil {
					only.fault = err // next time, the others go first
				}
			}
			if !errors.Is(ctx.Err(), context.Canceled) { // the member itself did not give up
				w.databaseFailed(start, tracking.RetryReason(err), err)
			}
			return err
		}
		if err := w.deadLetter(ctx, items[:n]); err != nil {
			w.metrics.retries.WithLabelValues(retryDeadLetter).Inc()
			return err
		}
		items = items[n:]
		unexplained = 0
		if only == nil || only.why == nil { // refused rows seldom come alone
			w.limit = min(w.limit+w.limit/4+1, w.maxBatch)
		}
	}
	return nil
}

// mayBeOneRow tells whether PostgreSQL's reason may lie in one of the rows, rather than in
// how it is reached or what it has left.
func mayBeOneRow(err error) bool {
	reason := tracking.RetryReason(err)
	return reason != tracking.RetryConnection && reason != tracking.RetryResources
}

// blamesEvent tells whether PostgreSQL did not accept an event while it accepted others.
func blamesEvent(err error) bool {
	var refused *tracking.RefusedError
	var heldUp *tracking.HeldUpError
	return errors.As(err, &refused) || errors.As(err, &heldUp)
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

// apply applies the events of items in one transaction. If there is only one, it returns
// its item; and if PostgreSQL refuses that for good, it marks it as dropped, which is no
// error.
func (w *writer) apply(ctx context.Context, items []*item) (only *item, err error) {
	events := make([]tracking.Event, 0, len(items))
	for _, i := range items {
		if i.why == nil {
			events = append(events, i.event)
			only = i
		}
	}
	if len(events) == 0 {
		return nil, nil
	}
	if len(events) > 1 {
		only = nil
	}
	start := time.Now()
	result, err := w.store.Apply(ctx, events)
	if err == nil {
		w.window.applied(items, result)
		w.metrics.observeApplied(items, time.Since(start))
		w.databaseAnswered()
		return only, nil
	}
	if blamesEvent(err) { // and another was taken
		w.databaseAnswered()
	}
	var refusal *tracking.RefusedError
	if errors.As(err, &refusal) && only != nil {
		if err = w.mayDrop(only, refusal); err == nil {
			only.why = &tracking.DropError{Reason: tracking.Refused, Type: only.event.Type, Detail: refusal.Detail()}
			return only, nil
		}
	}
	w.metrics.retries.WithLabelValues(tracking.RetryReason(err)).Inc()
	return only, err
}

// mayDrop returns nil if an event that PostgreSQL refuses may become a dead letter now, and
// otherwise why it must wait: it is the next of too many in a row, or its record is needed
// and no longer there.
func (w *writer) mayDrop(i *item, refusal *tracking.RefusedError) error {
	if n := w.window.refusals(); w.maxRefused > 0 && n >= w.maxRefused {
		w.log.Error("dropping stopped: PostgreSQL refuses one event after another and accepts none, which is more likely a fault of the database than of all of them; no more are dropped until it accepts one. Find out what refuses them; if they are to be dropped all the same, restart with CONSUMER_MAX_REFUSED=0",
			"group", w.group, "max_refused", w.maxRefused, "error", refusal)
		return fmt.Errorf("not dropped, since the last %d events were refused as well: %w", n, refusal)
	}
	if i.record == nil {
		w.keepRecords.Store(true)
		return fmt.Errorf("fetching the record again, since it must become a dead letter: %w", refusal)
	}
	return nil
}
