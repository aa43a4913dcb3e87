package consumer

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// offsets are those that may be committed and are not yet: the last record of each
// partition. They are committed beside the work, since Kafka takes none while the
// group waits for a member that is late, or dead, to rejoin: as long as it has its
// partitions, this one goes on. Where a commit fails the next one has its offsets.
type offsets struct {
	mu      sync.Mutex
	through map[int32]*kgo.Record
	settled bool          // some were committed, and none was given away uncommitted since
	busy    chan struct{} // one commit at a time
}

func newOffsets() offsets {
	return offsets{through: make(map[int32]*kgo.Record), busy: make(chan struct{}, 1)}
}

// add has offsets committed up to records, sooner or later.
func (o *offsets) add(records map[int32]*kgo.Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.Copy(o.through, records)
}

// drop forgets partitions, which are somebody else's from here on.
func (o *offsets) drop(partitions []int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range partitions {
		if o.through[p] != nil {
			o.settled = false
		}
		delete(o.through, p)
	}
}

// pending tells whether there are any.
func (o *offsets) pending() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.through) > 0
}

// areCommitted tells whether there were some, and all are committed.
func (o *offsets) areCommitted() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.settled && len(o.through) == 0
}

// all are those there are.
func (o *offsets) all() map[int32]*kgo.Record {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.through)
}

// committed forgets those that are not newer by now.
func (o *offsets) committed(records map[int32]*kgo.Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.through, func(p int32, r *kgo.Record) bool { return r == records[p] })
	o.settled = true
}

// commit commits what is pending. Where that fails no harm is done: another commit
// covers it, or another member applies the records again, to no effect.
func (c *Consumer) commit(ctx context.Context) {
	select {
	case c.offsets.busy <- struct{}{}:
		defer func() { <-c.offsets.busy }()
	case <-ctx.Done():
		return
	}
	records := c.offsets.all()
	if len(records) == 0 {
		return
	}
	if err := c.client.CommitRecords(ctx, slices.Collect(maps.Values(records))...); err != nil {
		c.log.Warn("offsets not committed yet: if the member ends before they are, the records will be consumed again and come out as duplicates",
			"group", c.group, "topic", c.topic, "error", err)
		return
	}
	c.offsets.committed(records)
	c.countLost(c.positions.committed(records))
}

// commitMeanwhile commits what is pending, unless that is being done. It does not
// wait for it.
func (c *Consumer) commitMeanwhile(ctx context.Context) {
	if len(c.offsets.busy) > 0 || !c.offsets.pending() {
		return // what comes to be pending meanwhile is for the next time
	}
	c.committing.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, commitTimeout)
		defer cancel()
		c.commit(ctx)
	})
}

// commitNow commits what is pending, and waits for it, since the partitions may be
// somebody else's in a moment.
func (c *Consumer) commitNow(ctx context.Context) {
	timeout := commitTimeout
	if ctx.Err() != nil { // the member stops, and what was done in time is committed
		timeout = lastCommitTimeout
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	c.commit(ctx)
}

// commitLast commits, when a member stops, what is still pending.
func (c *Consumer) commitLast(stopped context.Context) {
	start := time.Now()
	c.committing.Wait()
	if c.offsets.pending() {
		c.commitNow(stopped)
	}
	if c.offsets.areCommitted() { // or else it was said why not
		c.log.Info("offsets committed", "group", c.group, "topic", c.topic, "duration", since(start))
	}
}
