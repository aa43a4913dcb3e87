package consumer

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The client calls what follows, one at a time, and never between a poll and
// AllowRebalance: Run has nothing in hand then, and has marked all that is done.

// onBlocked says that one of the others waits for AllowRebalance.
func (c *Consumer) onBlocked(context.Context, *kgo.Client) { c.yield.Store(true) }

func (c *Consumer) onAssigned(_ context.Context, _ *kgo.Client, added map[string][]int32) {
	if partitions := added[c.topic]; len(partitions) > 0 {
		owned := c.lags.add(partitions)
		c.log.Info("partitions assigned", "group", c.group, "topic", c.topic, "partitions", sorted(partitions), "owned", owned)
	}
}

// onFetchOffsets notes the committed offsets of partitions that come to this member.
func (c *Consumer) onFetchOffsets(_ context.Context, committed map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	c.positions.begin(committed[c.topic])
	return committed, nil
}

// onRevoked commits what is marked of partitions that go to others, or of all when the
// member leaves.
func (c *Consumer) onRevoked(ctx context.Context, _ *kgo.Client, gone map[string][]int32) {
	partitions := gone[c.topic]
	if len(partitions) == 0 {
		return // a rebalance has begun, and nothing goes yet
	}
	start := time.Now()
	c.commit(ctx)
	if len(c.client.MarkedOffsets()) > 0 {
		c.committed.Store(false) // why was said
	} else if c.committed.Load() {
		c.log.Info("offsets committed", "group", c.group, "topic", c.topic, "duration", since(start))
	}
	owned := c.lags.remove(partitions)
	c.log.Info("partitions revoked", "group", c.group, "topic", c.topic, "partitions", sorted(partitions), "owned", owned)
}

// onLost can commit nothing: the partitions are somebody else's by now.
func (c *Consumer) onLost(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	c.committed.Store(false)
	if partitions := gone[c.topic]; len(partitions) > 0 {
		owned := c.lags.remove(partitions)
		c.log.Warn("partitions lost: the member is out of its group, and joins it anew", "group", c.group, "topic", c.topic, "partitions", sorted(partitions), "owned", owned)
	}
}

func sorted(partitions []int32) []int32 { return slices.Sorted(slices.Values(partitions)) }

// commit commits what is marked and waits for that, but no longer than commitTimeout
// or ctx. (The client may wait longer, for an earlier commit that nobody answers.)
func (c *Consumer) commit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	go func() {
		defer cancel()
		c.client.CommitOffsetsSync(ctx, c.client.MarkedOffsets(), c.onCommit)
	}()
	<-ctx.Done()
}

// onAutoCommit says how a commit ended that the client began by itself.
func (c *Consumer) onAutoCommit(client *kgo.Client, request *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
	if !errors.Is(err, context.Canceled) { // or else the member leaves, and commits once more
		c.onCommit(client, request, response, err)
	}
}

// onCommit says how a commit ended. Where it failed no harm is done: the client
// repeats it, or another member applies the records again, to no effect.
func (c *Consumer) onCommit(_ *kgo.Client, request *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
	failed := make(map[int32]bool)
	if err == nil {
		for _, t := range response.Topics {
			for _, p := range t.Partitions {
				if refusal := kerr.ErrorForCode(p.ErrorCode); refusal != nil {
					failed[p.Partition] = true
					err = refusal
				}
			}
		}
	}
	if err != nil {
		c.log.Warn("offsets not committed yet: if the member ends before they are, the records will be consumed again and come out as duplicates",
			"group", c.group, "topic", c.topic, "error", err)
		if len(failed) == 0 {
			return
		}
	}
	for _, t := range request.Topics {
		for _, p := range t.Partitions {
			if !failed[p.Partition] {
				c.committed.Store(true)
				c.countLost(p.Partition, c.positions.committed(p.Partition, p.Offset))
			}
		}
	}
}

// renewTopic sends the client to the topic anew where that was deleted and made again,
// as err says: its id is another. The client commits no offsets of the old one to it, if
// the brokers know ids in commits (Kafka 4.0); a group should be stopped before its
// topic is deleted.
func (c *Consumer) renewTopic(err error) {
	if errors.Is(err, kerr.UnknownTopicID) {
		c.client.PurgeTopicsFromConsuming(c.topic)
		c.client.AddConsumeTopics(c.topic)
	}
}
