package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Run consumes until ctx ends. Then it finishes what the writers have begun, commits it,
// leaves the group and returns: within stopTimeout, plus a few seconds each for resolving
// a lost commit and for leaving. Errors of Kafka and PostgreSQL do not end it; it backs
// off and retries.
//
// The window holds several batches: while the writers are busy, more is polled and handed
// to them, and each takes everything that waits for it into its next transaction. So
// transactions grow by themselves with the load, or with a slow or distant database, and
// no event waits for others to arrive.
func (c *Consumer) Run(ctx context.Context) {
	defer c.Close()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	begun := make(chan time.Time, 1) // when the member began to stop
	defer context.AfterFunc(ctx, func() {
		at := time.Now()
		c.yield.Store(true)
		time.AfterFunc(stopTimeout, cancel) // The window may outlive ctx by this much.
		c.log.Info("stopping: nothing more is polled", "group", c.group)
		begun <- at // after the line, which comes before Run's last one
	})()
	lagging, stopLag := context.WithCancel(ctx)
	lagStopped := c.watchLag(lagging)
	defer func() { stopLag(); lagStopped() }()
	stopWriters := c.startWriters(work)

	var failure error // why the window was last emptied with something left undone
	for stopping := false; !stopping; {
		// A rebalance waits from here …
		fetches, err := c.poll(ctx)
		polled := c.decode(fetches)
		c.window.add(polled)
		c.hand(polled)
		c.mark(c.window.done())
		stopping = ctx.Err() != nil
		if err == nil && !stopping && !c.mustLetGo() && !c.window.isEmpty() {
			continue
		}
		rest := c.window.finish()
		c.mark(rest.done)
		if !stopping { // otherwise leaving the group commits
			c.putBack(work, rest.left)
			c.pauseLetters(rest.letters)
			c.pauseFaulty(rest)
		}
		c.client.AllowRebalance() // … to here.
		c.allowed = time.Now()
		c.yield.Store(false)
		failure = rest.failure()
		c.keepRecords.Store(rest.refused || failure != nil && c.keepRecords.Load())
		c.renewTopic(err)
		if err = errors.Join(err, rest.err); err != nil && !stopping {
			c.pause(ctx, err)
		}
	}
	stopWriters()
	if failure != nil {
		c.log.Warn("gave up on the work in flight: not all of it is done; the rest is left to the group", "group", c.group, "error", failure, "duration", since(<-begun))
	} else {
		c.log.Info("drained: the writers finished what they had begun; the rest is left to the group", "group", c.group, "duration", since(<-begun))
	}
}

// poll returns what has been fetched. If the window is not empty, it waits no longer than
// until its oldest batch is processed, and may return nothing.
func (c *Consumer) poll(ctx context.Context) (kgo.Fetches, error) {
	if !c.window.isEmpty() {
		if c.yield.Load() {
			return nil, nil
		}
		if c.window.isFull(c.maxBatch) {
			c.window.oldest().wait()
			return nil, nil
		}
		waiting, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.window.oldest().worked, cancel)()
		ctx = waiting
	}
	fetches := c.client.PollRecords(ctx, c.maxBatch)
	c.findLost(fetches)
	return fetches, c.pauseFailing(fetches)
}

// hand gives the shares of a batch to their writers.
func (c *Consumer) hand(b *batch) {
	for i, s := range b.shares {
		c.writers[i].give(s)
	}
}

// mark makes the client commit these offsets within commitInterval.
func (c *Consumer) mark(done offsets) {
	if len(done) > 0 {
		c.backoff.Reset()
		c.marked.Store(true)
		c.client.MarkCommitOffsets(map[string]map[int32]kgo.EpochOffset{c.topic: done})
		for p := range done {
			delete(c.failing, p)
		}
	}
}

// putBack rewinds to what is left, so that it is fetched again. It first commits what is
// marked, since the client treats the offsets that it is set to as committed.
func (c *Consumer) putBack(ctx context.Context, left offsets) {
	if len(left) > 0 {
		c.commit(ctx)
		if len(c.client.MarkedOffsets()) > 0 {
			c.marked.Store(false) // it failed, and the client is about to forget them
		}
		c.rewind(left)
	}
}

// rewind makes the next polls start at these offsets. A rebalance waits meanwhile, so
// this member still owns the partitions.
func (c *Consumer) rewind(to offsets) {
	c.positions.rewind(to)
	c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{c.topic: to})
}

// mustLetGo tells whether to finish the window.
func (c *Consumer) mustLetGo() bool {
	return c.yield.Load() || time.Since(c.allowed) > letGoInterval
}

// pauseFaulty pauses the partitions whose next event PostgreSQL does not accept, while the
// others continue. The events behind it in the partition wait: they would only be applied
// again and again.
func (c *Consumer) pauseFaulty(r rest) {
	for partition, fault := range r.faults {
		wait := c.pausePartition(partition)
		c.log.Warn("partition pausing: PostgreSQL does not accept its next event; nothing is lost, and other partitions continue",
			"group", c.group, "topic", c.topic, "partition", partition, "offset", r.left[partition].Offset, "error", fault, "retry_in", wait.Round(time.Millisecond).String())
	}
}

// pause backs off before the next try.
func (c *Consumer) pause(ctx context.Context, err error) {
	wait := c.backoff.NextBackOff()
	c.log.Warn("pausing: nothing is lost; what was not applied is fetched again",
		"group", c.group, "topic", c.topic, "error", err, "retry_in", wait.Round(time.Millisecond).String())
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}
