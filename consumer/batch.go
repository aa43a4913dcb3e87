package consumer

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// shareFrom is the number of records in the window from which a batch is shared among the
// writers. Below it, all go to the first writer: each transaction costs round trips and a
// commit in PostgreSQL, and splitting a few records speeds nothing up.
const shareFrom = 2_000

// batch is what one poll returned.
type batch struct {
	records  int
	held     int             // approximate bytes of memory
	consumed tracking.Counts // its records, by type
	shares   []*share        // one per writer, or a single one; none if the poll returned nothing

	working atomic.Int32       // shares not yet processed
	worked  context.Context    // ends when there are none
	end     context.CancelFunc // of worked

	before *batch // the previous batch in the window, if any; nil again once this one is decided
	decide sync.Once
	taken  bool // otherwise skipped
}

// share is a writer's part of a batch.
type share struct {
	batch *batch
	items []item
	err   error // why some items are not done, here or in shares of the same transaction
}

// decode reads the polled records and shares them out by key, so that all events of an
// email in a batch go to one writer. Two writers would wait for each other at the email's
// row. That still happens occasionally, when a shared batch follows one that is not.
func (c *Consumer) decode(fetches kgo.Fetches) *batch {
	b := &batch{records: fetches.NumRecords()}
	if b.records == 0 {
		return b
	}
	writers := 1
	if c.window.records()+b.records >= shareFrom {
		writers = len(c.writers)
	}
	b.shares = make([]*share, writers)
	b.working.Store(int32(writers))
	b.worked, b.end = context.WithCancel(context.Background())
	for i := range b.shares {
		b.shares[i] = &share{batch: b, items: make([]item, 0, b.records/writers+b.records/32)}
	}
	keep := c.keepRecords.Load()
	travelled := new(tracking.Record) // shared by all records, to spare an allocation for each
	fetches.EachRecord(func(r *kgo.Record) {
		suspect := c.failing[r.Partition] != nil
		i := c.newItem(r, travelled, keep || suspect)
		i.suspect = suspect
		b.held += i.held()
		if !i.done { // no control record
			b.consumed[i.typ()]++
		}
		s := b.shares[0] // and all of a suspect partition: what is behind a fault is not tried
		if writers > 1 && !suspect {
			s = b.shares[maphash.Bytes(c.seed, r.Key)%uint64(writers)]
		}
		s.items = append(s.items, i)
	})
	return b
}

// take tells whether to process the batch. The first of its writers to ask decides for
// all of them, and for the batches before it: if a rebalance is waiting, the batch is
// skipped and left to the partitions' new owners. If only some of its shares, or an
// earlier batch, were skipped, their records would cause the others to be consumed again
// too.
func (b *batch) take(yield *atomic.Bool) bool {
	b.decide.Do(func() {
		b.taken = (b.before == nil || b.before.take(yield)) && !yield.Load()
		b.before = nil
	})
	return b.taken
}

// wait returns when the batch is processed.
func (b *batch) wait() { <-b.worked.Done() }

// isDone tells whether the batch is processed and every item of it is done.
func (b *batch) isDone() bool {
	if b.worked.Err() == nil {
		return false
	}
	for _, s := range b.shares {
		for n := range s.items {
			if !s.items[n].done {
				return false
			}
		}
	}
	return true
}

// end tells the batch that the share is processed.
func (s *share) end() {
	if s.batch.working.Add(-1) == 0 {
		s.batch.end()
	}
}
