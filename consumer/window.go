package consumer

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// Limits of the window. Nothing more is polled while it has reached one of them: in
// records, in bytes of memory, or in batches, however small.
const (
	maxWindowRecords = 4 // times MaxBatch
	maxWindowBytes   = 32 << 20
	maxWindowBatches = 256
)

// window holds the batches in progress, those polled and not done, oldest first. It also
// counts what came in and what became of it. Each method changes both in one step, so
// that every scrape adds up.
//
// Consumed events are counted when polled, outcomes when PostgreSQL and Kafka confirm
// them, and events in flight by looking at what is in the window. So an event that is
// lost or counted twice in between shows.
type window struct {
	mu      sync.Mutex
	batches []*batch // changed only by Run's goroutine
	now     counts
}

// counts cover everything that has been through a window. dropped has a key for each
// possible label set.
type counts struct {
	consumed, applied, duplicate tracking.Counts
	dropped                      map[drop]int
	refetched                    int
	firstOpens, firstClicks      int
	refusals                     int // events dropped as refused since one was last applied
}

type drop struct {
	typ    tracking.Type
	reason tracking.Reason
}

// offsets are positions, by partition.
type offsets map[int32]kgo.EpochOffset

// add adds what a poll returned, which may be nothing.
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

// applied records that PostgreSQL has committed the events of items.
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
	if result.Applied.Sum() > 0 {
		w.now.refusals = 0
	}
}

// dropped records that Kafka has acknowledged an item's dead letter.
func (w *window) dropped(i *item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i.done = true
	w.now.dropped[drop{i.why.Type, i.why.Reason}]++
	if i.why.Reason == tracking.Refused {
		w.now.refusals++
	}
}

// refusals is how many events were dropped as refused since one was last applied.
func (w *window) refusals() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now.refusals
}

// done removes the oldest batches, as far as each is done entirely, and returns the
// offsets after them.
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

// rest is the outcome of finishing the window.
type rest struct {
	done    offsets         // after what is done
	left    offsets         // of the first item in each partition that is not done
	refused bool            // PostgreSQL has refused an event for good
	letters []*letterError  // dead letters that were not written
	faults  map[int32]error // by partition, why PostgreSQL does not accept its first event that is left
	err     error           // why something else is left
}

// failure is why something is left.
func (r *rest) failure() error {
	all := []error{r.err}
	for _, e := range r.letters {
		all = append(all, e)
	}
	for _, err := range r.faults {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// finish waits until everything is processed and empties the window.
func (w *window) finish() rest {
	r := rest{faults: make(map[int32]error)}
	refetched := 0
	for _, b := range w.batches {
		b.wait()
		for _, s := range b.shares {
			var letters *letterError
			if errors.As(s.err, &letters) {
				r.letters = append(r.letters, letters)
			} else {
				r.err = errors.Join(r.err, s.err)
			}
			for n := range s.items {
				if i := &s.items[n]; !i.done {
					refetched++
					if i.fault != nil {
						r.faults[i.partition] = i.fault
					}
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

// progress returns how far batches have brought their partitions: the offsets after what
// is done, and those of the first items that are not done. The batches must be processed,
// and must hold every record of their partitions in the window, up to their last records.
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

// oldest is the first batch. The window must not be empty.
func (w *window) oldest() *batch { return w.batches[0] }

// isFull tells whether to stop polling, given batches of up to maxBatch records.
func (w *window) isFull(maxBatch int) bool {
	held := 0
	for _, b := range w.batches {
		held += b.held
	}
	return w.records() >= maxWindowRecords*maxBatch || held >= maxWindowBytes || len(w.batches) >= maxWindowBatches
}

// records is the number of records in the window.
func (w *window) records() (n int) {
	for _, b := range w.batches {
		n += b.records
	}
	return n
}

// scrape returns a consistent snapshot of all counts, and the number of events in flight.
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
