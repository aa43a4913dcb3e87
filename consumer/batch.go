package consumer

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// shareEvents is how many events are worth a transaction of their own: a batch
// is shared among one writer for as many, and one more for each as many again.
const shareEvents = 1_000

// batch is what one poll brought.
type batch struct {
	shares []*share // one a writer; none if the poll brought nothing
	left   atomic.Int32
	done   context.Context // ends when all shares are worked off
	end    context.CancelFunc
	decide sync.Once
	taken  bool // or else left as it is
}

// share is a writer's part of a batch.
type share struct {
	batch *batch
	items []item
	err   error // why some are not done
}

// newBatch shares the records out by their keys, so that an email's events are
// one writer's: two would wait for each other at the email's row.
func newBatch(fetches kgo.Fetches, writers int, seed maphash.Seed) *batch {
	n := fetches.NumRecords()
	b := new(batch)
	if n == 0 {
		return b
	}
	writers = min(1+n/shareEvents, writers)
	b.shares = make([]*share, writers)
	b.left.Store(int32(writers))
	b.done, b.end = context.WithCancel(context.Background())
	for i := range b.shares {
		b.shares[i] = &share{batch: b, items: make([]item, 0, n/writers+n/8)}
	}
	fetches.EachRecord(func(r *kgo.Record) {
		s := b.shares[0]
		if writers > 1 {
			s = b.shares[maphash.Bytes(seed, r.Key)%uint64(writers)]
		}
		s.items = append(s.items, newItem(r))
	})
	return b
}

// all are the shares; none of no batch.
func (b *batch) all() []*share {
	if b == nil {
		return nil
	}
	return b.shares
}

// shared tells whether the batch was large enough for several writers.
func (b *batch) shared() bool { return len(b.shares) > 1 }

// wait returns when the batch is worked off.
func (b *batch) wait() {
	if len(b.all()) > 0 {
		<-b.done.Done()
	}
}

// failed tells, of a batch that is worked off, whether an error left some of it.
func (b *batch) failed() bool {
	for _, s := range b.all() {
		if s.err != nil {
			return true
		}
	}
	return false
}

// take tells whether the batch is to be worked off. The first of its writers to
// ask decides for all: if a rebalance has come to wait, it is left as it is, for
// whoever gets its partitions. Were only some of its shares left, their records
// would bring those of the others with them, in between, to be consumed again.
func (b *batch) take(yield *atomic.Bool) bool {
	b.decide.Do(func() { b.taken = !yield.Load() })
	return b.taken
}

// end tells the batch that the share is worked off.
func (s *share) end() {
	if s.batch.left.Add(-1) == 0 {
		s.batch.end()
	}
}
