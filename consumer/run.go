package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Run consumes until ctx ends, then finishes what is in hand, commits it, leaves
// the group and returns: within stopTimeout and leaveTimeout. Errors of Kafka and
// PostgreSQL do not end it; it waits for them to pass.
func (c *Consumer) Run(ctx context.Context) {
	defer c.Close()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		c.yield.Store(true)
		select { // What is in hand outlives ctx by so much.
		case <-time.After(stopTimeout):
			cancel()
		case <-work.Done():
		}
	})()
	lagging, stopLag := context.WithCancel(ctx)
	lagStopped := c.watchLag(lagging)
	defer func() { stopLag(); lagStopped() }()
	defer c.startWriters(work)()

	pause := backoff.NewExponentialBackOff() // from half a second, growing by half, each ± 50 %
	pause.MaxInterval = maxPause
	// Under a backlog two batches are in hand: while writers are busy with the
	// older, the newer is polled, shared out among them and waits behind it. A
	// batch that is too small to share is finished first, while records gather for
	// the next.
	var older *batch
	for ctx.Err() == nil || older != nil {
		// A rebalance of the group waits from here …
		newer, err := c.poll(ctx, older)
		for i, s := range newer.shares {
			go c.hand(c.writers[i], s)
		}
		older.wait()
		if err != nil || older.failed() || !newer.shared() || c.yield.Load() {
			newer.wait()
			done, failure := c.settle(work, older, newer)
			if done > 0 {
				pause.Reset()
			}
			err = errors.Join(err, failure)
			older = nil
			c.yield.Store(false)
			c.client.AllowRebalance() // … to here.
		} else {
			c.settle(work, older)
			older = newer
			continue
		}
		if err == nil {
			continue
		}
		wait := pause.NextBackOff()
		c.log.Warn("pausing: nothing is lost, what was not applied is fetched again",
			"error", err, "retry_in", wait.Round(time.Millisecond).String())
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// poll takes what has been fetched and begins a batch with it. While there is an
// older batch it waits for no longer than that is in work, and what it gives may
// be empty.
func (c *Consumer) poll(ctx context.Context, older *batch) (*batch, error) {
	if older != nil {
		if c.yield.Load() {
			return new(batch), nil
		}
		waiting, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(older.done, cancel)()
		ctx = waiting
	}
	fetches := c.client.PollRecords(ctx, c.maxBatch)
	if ctx.Err() != nil { // kgo reports it as an error of the fetch
		return newBatch(fetches, len(c.writers), c.seed), nil
	}
	return newBatch(fetches, len(c.writers), c.seed), c.fetchError(fetches)
}

// settle commits the offsets behind what is done of batches, which are all that
// is in hand of their partitions up to their last records, and has the rest
// fetched again by the next poll.
func (c *Consumer) settle(ctx context.Context, batches ...*batch) (done int, err error) {
	type span struct{ from, to, left *item } // left: the first that is not done
	partitions := make(map[int32]*span)
	for _, b := range batches {
		for _, s := range b.all() {
			err = errors.Join(err, s.err)
			for n := range s.items {
				i := &s.items[n]
				p := partitions[i.partition]
				if p == nil {
					p = &span{from: i, to: i}
					partitions[i.partition] = p
				}
				if i.offset < p.from.offset {
					p.from = i
				}
				if i.offset > p.to.offset {
					p.to = i
				}
				if i.done {
					done++
				} else if p.left == nil || i.offset < p.left.offset {
					p.left = i
				}
			}
		}
	}

	var through []*kgo.Record // the last of each partition that may be committed
	rewind := make(map[int32]kgo.EpochOffset)
	for n, p := range partitions {
		last, epoch := p.to.offset, p.to.epoch
		if p.left != nil {
			last, epoch = p.left.offset-1, p.left.epoch
			rewind[n] = kgo.EpochOffset{Epoch: epoch, Offset: p.left.offset}
		}
		if last >= p.from.offset {
			through = append(through, &kgo.Record{Topic: c.topic, Partition: n, LeaderEpoch: epoch, Offset: last})
		}
	}
	c.commit(ctx, through)
	if len(rewind) > 0 {
		// A rebalance waits meanwhile, so these partitions are ours.
		c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{c.topic: rewind})
	}
	return done, err
}

// commit commits the offsets behind records. Where that fails no harm is done:
// the next commit of the partition covers it, or another member applies the
// records again, to no effect.
func (c *Consumer) commit(ctx context.Context, records []*kgo.Record) {
	if len(records) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if err := c.client.CommitRecords(ctx, records...); err != nil {
		c.log.Warn("offsets not committed: the records will be consumed again and come out as duplicates", "error", err)
	}
}

// fetchError joins the errors of partitions that brought no records. kgo goes on
// by itself; the error makes the loop pause, rather than spin. Only to a topic
// that was deleted and made anew it has to be sent: its id is another. (Offsets
// of a batch in hand may be committed to it by name, which skips as many of its
// first records: a group should be stopped before its topic is deleted.)
func (c *Consumer) fetchError(fetches kgo.Fetches) error {
	var errs []error
	anew := false
	fetches.EachError(func(topic string, partition int32, err error) {
		anew = anew || errors.Is(err, kerr.UnknownTopicID)
		errs = append(errs, fmt.Errorf("fetch from topic %q partition %d: %w", topic, partition, err))
	})
	if anew {
		c.client.PurgeTopicsFromConsuming(c.topic)
		c.client.AddConsumeTopics(c.topic)
	}
	return errors.Join(errs...)
}
