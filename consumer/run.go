package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Run consumes until ctx ends, then finishes what writers have begun, commits it,
// leaves the group and returns: within stopTimeout, and a few seconds each for
// what became of a lost commit and for leaving. Errors of Kafka and PostgreSQL do not
// end it; it waits for them to pass.
//
// Several batches are in hand: while writers are busy with those, more is polled and
// handed to them, and each takes all that waits for it into its next transaction. So
// transactions grow by themselves, with the load and with a database that is slow or
// far away, and no event waits for others to come.
func (c *Consumer) Run(ctx context.Context) {
	defer c.Close()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	begun := make(chan time.Time, 1) // when the member began to stop
	defer context.AfterFunc(ctx, func() {
		begun <- time.Now()
		c.yield.Store(true)
		time.AfterFunc(stopTimeout, cancel) // What is in hand outlives ctx by so much.
		c.log.Info("stopping: nothing more is polled", "group", c.group)
	})()
	lagging, stopLag := context.WithCancel(ctx)
	lagStopped := c.watchLag(lagging)
	defer func() { stopLag(); lagStopped() }()
	stopWriters := c.startWriters(work)

	var failure error // why not all that was in hand was done, the last time
	for stopping := false; !stopping; {
		// A rebalance of the group waits from here …
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
		if !stopping { // or else leaving the group commits
			c.putBack(work, rest.left)
		}
		c.client.AllowRebalance() // … to here.
		c.allowed = time.Now()
		c.yield.Store(false)
		failure = rest.err
		c.keepRecords.Store(rest.refused || failure != nil && c.keepRecords.Load())
		c.renewTopic(err)
		if err = errors.Join(err, failure); err != nil && !stopping {
			c.pause(ctx, err)
		}
	}
	stopWriters()
	if failure != nil {
		c.log.Warn("gave up what writers had begun: not all of it is done, the rest is the group's", "group", c.group, "error", failure, "duration", since(<-begun))
	} else {
		c.log.Info("drained: what writers had begun is done, the rest is the group's", "group", c.group, "duration", since(<-begun))
	}
}

// poll takes what has been fetched. While there is something in hand it waits for no
// longer than the oldest of that is in work, and what it gives may be empty.
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

// mark has the client commit these offsets, within commitInterval.
func (c *Consumer) mark(done offsets) {
	if len(done) > 0 {
		c.backoff.Reset()
		c.client.MarkCommitOffsets(map[string]map[int32]kgo.EpochOffset{c.topic: done})
	}
}

// putBack has what is left fetched again. What is marked is committed first, since the
// client takes the offsets that it goes back to for committed ones.
func (c *Consumer) putBack(ctx context.Context, left offsets) {
	if len(left) > 0 {
		c.commit(ctx)
		c.rewind(left)
	}
}

// rewind has the next polls begin at these offsets. A rebalance waits meanwhile, so
// these partitions are ours.
func (c *Consumer) rewind(to offsets) {
	c.positions.rewind(to)
	c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{c.topic: to})
}

// mustLetGo tells whether to finish all that is in hand.
func (c *Consumer) mustLetGo() bool {
	return c.yield.Load() || time.Since(c.allowed) > letGoInterval
}

// pause waits before what has failed is tried again.
func (c *Consumer) pause(ctx context.Context, err error) {
	wait := c.backoff.NextBackOff()
	c.log.Warn("pausing: nothing is lost, what was not applied is fetched again",
		"group", c.group, "topic", c.topic, "error", err, "retry_in", wait.Round(time.Millisecond).String())
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}
