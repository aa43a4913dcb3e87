package consumer

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// shareFrom is from how many records in hand on a batch is shared among the
// writers. With fewer, all go to the first one: each transaction costs round trips
// and a commit, and nobody is faster for having a part of few.
const shareFrom = 2_000

// batch is what one poll brought.
type batch struct {
	records  int
	held     int             // bytes of memory, about
	consumed tracking.Counts // the records by what they say
	shares   []*share        // one a writer, or one in all; none if the poll brought nothing

	working atomic.Int32       // shares that are not worked off
	worked  context.Context    // ends when none is left
	end     context.CancelFunc // of worked

	before *batch // the one in the window before it, if any; nil again once this one is decided
	decide sync.Once
	taken  bool // or else left as it is
}

// share is a writer's part of a batch.
type share struct {
	batch *batch
	items []item
	err   error // why some are not done, here or in what its writer took with it
}

// decode reads what was polled and shares it out by the records' keys, so that an
// email's events of a batch are one writer's: two would wait for each other at the
// email's row, as they do, now and then, when a batch that is shared follows one that
// is not.
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
	travelled := new(tracking.Record) // one for all: it would be garbage for each
	fetches.EachRecord(func(r *kgo.Record) {
		i := c.newItem(r, travelled, keep)
		b.held += i.held()
		b.consumed[i.typ()]++
		s := b.shares[0]
		if writers > 1 {
			s = b.shares[maphash.Bytes(c.seed, r.Key)%uint64(writers)]
		}
		s.items = append(s.items, i)
	})
	return b
}

// take tells whether the batch is to be worked off. The first of its writers to
// ask decides for all, and for those before it: if a rebalance has come to wait,
// it is left as it is, for whoever gets its partitions. Were only some of its
// shares left, or a batch before it, those records would bring the others with
// them, to be consumed again.
func (b *batch) take(yield *atomic.Bool) bool {
	b.decide.Do(func() {
		b.taken = (b.before == nil || b.before.take(yield)) && !yield.Load()
		b.before = nil
	})
	return b.taken
}

// wait returns when the batch is worked off.
func (b *batch) wait() { <-b.worked.Done() }

// isDone tells whether the batch is worked off, and nothing of it left.
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

// end tells the batch that the share is worked off.
func (s *share) end() {
	if s.batch.working.Add(-1) == 0 {
		s.batch.end()
	}
}
