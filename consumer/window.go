package consumer

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// No more is polled while the window has so many times MaxBatch records, or takes so
// many bytes of memory, or has so many batches, tiny as they may be.
const (
	maxWindowRecords = 4 // times MaxBatch
	maxWindowBytes   = 32 << 20
	maxWindowBatches = 256
)

// window is what is in hand: the batches that were polled and are not done, oldest
// first. With it go the counts of what came into it and of what became of that: each
// method changes both in one step, so that every scrape adds up.
//
// What is consumed is counted as it is polled, what became of it as PostgreSQL and
// Kafka say so, and what is in flight by a look at what is there. An event that gets
// lost between them, or is counted twice, shows.
type window struct {
	mu      sync.Mutex
	batches []*batch // Run's goroutine alone changes it
	now     counts
}

// counts are those of all that has been through a window. What is dropped has a key for
// each label set there can be.
type counts struct {
	consumed, applied, duplicate tracking.Counts
	dropped                      map[drop]int
	refetched                    int
	firstOpens, firstClicks      int
}

type drop struct {
	typ    tracking.Type
	reason tracking.Reason
}

// offsets are places in partitions.
type offsets map[int32]kgo.EpochOffset

// add takes in what a poll brought, which may be nothing.
func (w *window) add(b *batch) {
	if b.records == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.batches); n > 0 {
		b.before = w.batches[n-1]
	}
	w.batches = append(w.batches, b)
	for typ, n := range b.consumed {
		w.now.consumed[typ] += n
	}
}

// applied notes that PostgreSQL has committed the events of items.
func (w *window) applied(items []*item, result tracking.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range items {
		if i.why == nil {
			i.done = true
		}
	}
	for typ, n := range result.Applied {
		w.now.applied[typ] += n
		w.now.duplicate[typ] += result.Duplicate[typ]
	}
	w.now.firstOpens += result.FirstOpens
	w.now.firstClicks += result.FirstClicks
}

// dropped notes that Kafka has acknowledged an item's dead letter.
func (w *window) dropped(i *item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i.done = true
	w.now.dropped[drop{i.why.Type, i.why.Reason}]++
}

// done takes out the oldest batches, as far as all of each is done, and returns the
// offsets behind them.
func (w *window) done() offsets {
	n := 0
	for n < len(w.batches) && w.batches[n].isDone() {
		n++
	}
	if n == 0 {
		return nil
	}
	done, _ := progress(w.batches[:n])
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batches = slices.Delete(w.batches, 0, n)
	return done
}

// rest is how all that was in hand ended.
type rest struct {
	done    offsets // behind what is done
	left    offsets // of the first in each partition that is not done
	refused bool    // PostgreSQL has refused an event for good
	err     error   // why some is left
}

// finish waits until all is worked off, and takes it out.
func (w *window) finish() rest {
	var r rest
	refetched := 0
	for _, b := range w.batches {
		b.wait()
		for _, s := range b.shares {
			r.err = errors.Join(r.err, s.err)
			for n := range s.items {
				if i := &s.items[n]; !i.done {
					refetched++
				} else if i.why != nil && i.why.Reason == tracking.Refused {
					r.refused = true
				}
			}
		}
	}
	r.done, r.left = progress(w.batches)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batches = nil
	w.now.refetched += refetched
	return r
}

// progress is how far batches, which are worked off and all that is in hand of their
// partitions up to their last records, have brought them: the offsets behind what is
// done, and those of the first that are not.
func progress(batches []*batch) (done, left offsets) {
	type span struct{ first, last, left *item }
	partitions := make(map[int32]*span)
	for _, b := range batches {
		for _, s := range b.shares {
			for n := range s.items {
				i := &s.items[n]
				p := partitions[i.partition]
				if p == nil {
					p = &span{first: i, last: i}
					partitions[i.partition] = p
				}
				if i.before(p.first) {
					p.first = i
				}
				if p.last.before(i) {
					p.last = i
				}
				if !i.done && (p.left == nil || i.before(p.left)) {
					p.left = i
				}
			}
		}
	}
	done, left = make(offsets), make(offsets)
	for n, p := range partitions {
		if p.left == nil {
			done[n] = kgo.EpochOffset{Epoch: p.last.epoch, Offset: p.last.offset + 1}
			continue
		}
		left[n] = kgo.EpochOffset{Epoch: p.left.epoch, Offset: p.left.offset}
		if p.first.before(p.left) {
			done[n] = left[n]
		}
	}
	return done, left
}

func (w *window) isEmpty() bool { return len(w.batches) == 0 }

// oldest is the batch that has been in hand for longest. There must be one.
func (w *window) oldest() *batch { return w.batches[0] }

// isFull tells whether no more is to be polled, in batches of up to maxBatch records.
func (w *window) isFull(maxBatch int) bool {
	held := 0
	for _, b := range w.batches {
		held += b.held
	}
	return w.records() >= maxWindowRecords*maxBatch || held >= maxWindowBytes || len(w.batches) >= maxWindowBatches
}

// records is how many there are.
func (w *window) records() (n int) {
	for _, b := range w.batches {
		n += b.records
	}
	return n
}

// scrape is all counts at one moment, and how many events are in flight.
func (w *window) scrape() (c counts, inFlight int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.batches {
		for _, s := range b.shares {
			for n := range s.items {
				if !s.items[n].done {
					inFlight++
				}
			}
		}
	}
	c = w.now
	c.dropped = maps.Clone(c.dropped)
	return c, inFlight
}
