package consumer

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// shareFrom is from how many records in hand on a batch is shared among the
// writers. With fewer, all go to the first one: each transaction costs round trips
// and a commit, and nobody is faster for having a part of few.
const shareFrom = 2_000

// batch is what one poll brought.
type batch struct {
	records int
	bytes   int      // of the records' values
	shares  []*share // one a writer, or one in all; none if the poll brought nothing

	left   atomic.Int32
	done   context.Context // ends when all shares are worked off
	end    context.CancelFunc
	decide sync.Once
	before *batch // in hand; nil if there is none, or once this one is decided
	taken  bool   // or else left as it is
}

// share is a writer's part of a batch.
type share struct {
	batch *batch
	items []item
	err   error // why some are not done, here or in what its writer took with it
}

// newBatch decodes records and shares them out by their keys, so that an email's
// events of a batch are one writer's: two would wait for each other at the email's
// row, as they do, now and then, when a batch that is shared follows one that is
// not.
// inHand has so many records.
func (c *Consumer) newBatch(fetches kgo.Fetches, inHand []*batch, records int) *batch {
	b := &batch{records: fetches.NumRecords()}
	if b.records == 0 {
		return b
	}
	if n := len(inHand); n > 0 {
		b.before = inHand[n-1]
	}
	writers := 1
	if records+b.records >= shareFrom {
		writers = len(c.writers)
	}
	b.shares = make([]*share, writers)
	b.left.Store(int32(writers))
	b.done, b.end = context.WithCancel(context.Background())
	for i := range b.shares {
		b.shares[i] = &share{batch: b, items: make([]item, 0, b.records/writers+b.records/32)}
	}
	keep := c.keepRecords.Load()
	fetches.EachRecord(func(r *kgo.Record) {
		s := b.shares[0]
		if writers > 1 {
			s = b.shares[maphash.Bytes(c.seed, r.Key)%uint64(writers)]
		}
		b.bytes += len(r.Value)
		s.items = append(s.items, c.newItem(r, keep))
	})
	return b
}

// hand gives the shares to their writers.
func (c *Consumer) hand(b *batch) {
	for i, s := range b.shares {
		c.writers[i].give(s)
	}
}

// size is that of batches: their records, and the bytes of those.
func size(batches []*batch) (records, bytes int) {
	for _, b := range batches {
		records += b.records
		bytes += b.bytes
	}
	return records, bytes
}

// wait returns when the batch is worked off.
func (b *batch) wait() { <-b.done.Done() }

func (b *batch) isDone() bool { return b.done.Err() != nil }

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

// end tells the batch that the share is worked off.
func (s *share) end() {
	if s.batch.left.Add(-1) == 0 {
		s.batch.end()
	}
}
