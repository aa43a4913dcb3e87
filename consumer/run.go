package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// Run consumes until ctx ends, then finishes what writers have begun, commits it,
// leaves the group and returns: within stopTimeout, and a few seconds each for
// what became of a lost commit, for the offsets and for leaving. Errors of Kafka
// and PostgreSQL do not end it; it waits for them to pass.
func (c *Consumer) Run(ctx context.Context) {
	defer c.Close()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stopping := make(chan time.Time, 1)
	defer context.AfterFunc(ctx, func() {
		start := time.Now()
		c.yield.Store(true)
		time.AfterFunc(stopTimeout, cancel) // What is in hand outlives ctx by so much.
		c.log.Info("stopping: nothing more is polled", "group", c.group)
		stopping <- start
	})()
	lagging, stopLag := context.WithCancel(ctx)
	lagStopped := c.watchLag(lagging)
	defer func() { stopLag(); lagStopped() }()
	stopWriters := c.startWriters(work)

	pause := backoff.NewExponentialBackOff() // from half a second, growing by half, each ± 50 %
	pause.MaxInterval = maxPause
	// Several batches are in hand, the oldest first: while writers are busy with
	// those, more is polled and handed to them, and each takes all that waits for it
	// into its next transaction. So transactions grow by themselves, with the load
	// and with a database that is slow or far away, and no event waits for others to
	// come.
	var inHand []*batch
	var left error        // why, at the end, not all that writers had begun is done
	allowed := time.Now() // when a rebalance could come last
	for ctx.Err() == nil || len(inHand) > 0 {
		// A rebalance of the group waits from here …
		newest, err := c.poll(ctx, inHand)
		if newest.records > 0 {
			inHand = append(inHand, newest)
			c.hand(newest)
		}
		done := 0
		for done < len(inHand) && inHand[done].isDone() {
			done++
		}
		if err == nil && ctx.Err() == nil && !c.yield.Load() && time.Since(allowed) < letGoInterval {
			// Nobody has left anything of what is done, or yield would be set.
			if done > 0 {
				c.settle(work, c.commitMeanwhile, inHand[:done]...)
				pause.Reset()
				inHand = slices.Clone(inHand[done:])
			} else {
				c.commitMeanwhile(work) // what has failed
			}
			if len(inHand) > 0 || c.offsets.pending() {
				continue
			}
		}
		for _, b := range inHand {
			b.wait()
		}
		progress, failure := c.settle(work, c.commitNow, inHand...)
		c.keepRecords.Store(failure != nil && c.keepRecords.Load() || refused(inHand))
		inHand, allowed = nil, time.Now()
		c.client.AllowRebalance() // … to here.
		c.yield.Store(false)
		if progress {
			pause.Reset()
		}
		c.renewTopic(err)
		if ctx.Err() != nil {
			left = failure
			break
		}
		if err = errors.Join(err, failure); err == nil {
			continue
		}
		wait := pause.NextBackOff()
		c.log.Warn("pausing: nothing is lost, what was not applied is fetched again",
			"group", c.group, "topic", c.topic, "error", err, "retry_in", wait.Round(time.Millisecond).String())
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	stopWriters()
	if left != nil {
		c.log.Warn("gave up what writers had begun: not all of it is done, the rest is the group's", "group", c.group, "error", left, "duration", since(<-stopping))
	} else {
		c.log.Info("drained: what writers had begun is done, the rest is the group's", "group", c.group, "duration", since(<-stopping))
	}
	c.commitLast(ctx)
	c.client.AllowRebalance() // The loop may have ended before it came to that, and leaving waits for it.
}

// poll takes what has been fetched and decodes it. While there is something in
// hand it waits for no longer than the oldest of that is in work, and what it
// gives may be empty.
func (c *Consumer) poll(ctx context.Context, inHand []*batch) (*batch, error) {
	records, bytes := size(inHand)
	if len(inHand) > 0 {
		if c.yield.Load() {
			return new(batch), nil
		}
		if records >= maxInHand*c.maxBatch || bytes >= maxBytesInHand || len(inHand) >= maxBatchesInHand {
			inHand[0].wait()
			return new(batch), nil
		}
		waiting, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(inHand[0].done, cancel)()
		ctx = waiting
	} else if c.offsets.pending() {
		waiting, cancel := context.WithTimeout(ctx, commitRetry)
		defer cancel()
		ctx = waiting
	}
	fetches := c.client.PollRecords(ctx, c.maxBatch)
	c.findLost(fetches)
	return c.newBatch(fetches, inHand, records), fetchError(fetches)
}

// settle has the offsets committed behind what is done of batches, which are all
// that is in hand of their partitions up to their last records, and has the rest
// fetched again by the next poll. progress says that something was done.
func (c *Consumer) settle(ctx context.Context, commit func(context.Context), batches ...*batch) (progress bool, err error) {
	type span struct{ from, to, left *item } // left: the first that is not done
	partitions := make(map[int32]*span)
	for _, b := range batches {
		for _, s := range b.shares {
			err = errors.Join(err, s.err)
			for n := range s.items {
				i := &s.items[n]
				p := partitions[i.partition]
				if p == nil {
					p = &span{from: i, to: i}
					partitions[i.partition] = p
				}
				if i.before(p.from) {
					p.from = i
				}
				if p.to.before(i) {
					p.to = i
				}
				if !i.done && (p.left == nil || i.before(p.left)) {
					p.left = i
				}
			}
		}
	}

	through := make(map[int32]*kgo.Record) // the last of each partition that may be committed
	rewind := make(map[int32]kgo.EpochOffset)
	for n, p := range partitions {
		last, epoch := p.to.offset, p.to.epoch
		if p.left != nil {
			last, epoch = p.left.offset-1, p.left.epoch
			rewind[n] = kgo.EpochOffset{Epoch: epoch, Offset: p.left.offset}
		}
		if p.left == nil || p.from.before(p.left) {
			through[n] = &kgo.Record{Topic: c.topic, Partition: n, LeaderEpoch: epoch, Offset: last}
		}
	}
	c.offsets.add(through)
	commit(ctx)
	if len(rewind) > 0 {
		// A rebalance waits meanwhile, so these partitions are ours.
		c.positions.rewind(rewind)
		c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{c.topic: rewind})
	}
	return len(through) > 0, err
}

// refused tells whether PostgreSQL has refused an event of batches for good.
func refused(batches []*batch) bool {
	for _, b := range batches {
		for _, s := range b.shares {
			if slices.ContainsFunc(s.items, func(i item) bool { return i.why != nil && i.why.Reason == tracking.Refused }) {
				return true
			}
		}
	}
	return false
}

// fetchError joins the errors of partitions that brought no records. kgo goes on
// by itself; the error makes the loop pause, rather than spin.
func fetchError(fetches kgo.Fetches) error {
	var errs []error
	fetches.EachError(func(topic string, partition int32, err error) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) { // the poll was to wait no longer
			return
		}
		if topic == "" { // of the group
			errs = append(errs, err)
			return
		}
		errs = append(errs, fmt.Errorf("fetch from topic %q partition %d: %w", topic, partition, err))
	})
	return errors.Join(errs...)
}

// renewTopic sends kgo to the topic anew where that was deleted and made again,
// as err says: its id is another. Nothing is in hand by now, or the offsets of the
// old one might be committed to the new one. (Some may be all the same, where the
// new one is there before the error is: a group should be stopped before its topic
// is deleted.)
func (c *Consumer) renewTopic(err error) {
	if errors.Is(err, kerr.UnknownTopicID) {
		c.client.PurgeTopicsFromConsuming(c.topic)
		c.client.AddConsumeTopics(c.topic)
	}
}
