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

// The client calls the callbacks below one at a time, and never between a poll and
// AllowRebalance: the window is empty then, and all that is done is marked.

// onBlocked says that one of the other callbacks is waiting for AllowRebalance.
func (c *Consumer) onBlocked(context.Context, *kgo.Client) { c.yield.Store(true) }

func (c *Consumer) onAssigned(_ context.Context, _ *kgo.Client, added map[string][]int32) {
	if partitions := added[c.topic]; len(partitions) > 0 {
		owned := c.lags.add(partitions)
		c.log.Info("partitions assigned", "group", c.group, "topic", c.topic, "partitions", sorted(partitions), "owned", owned)
	}
}

// onFetchOffsets records the committed offsets of partitions assigned to this member.
func (c *Consumer) onFetchOffsets(_ context.Context, committed map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	c.positions.begin(committed[c.topic])
	return committed, nil
}

// onRevoked commits what is marked of partitions that move to other members, or of all
// when the member leaves.
func (c *Consumer) onRevoked(ctx context.Context, _ *kgo.Client, gone map[string][]int32) {
	partitions := gone[c.topic]
	if len(partitions) == 0 {
		return // a rebalance has begun, but nothing is revoked yet
	}
	start := time.Now()
	c.commit(ctx)
	if len(c.client.MarkedOffsets()) == 0 && c.marked.Load() { // otherwise the reason has been logged
		c.log.Info("offsets committed", "group", c.group, "topic", c.topic, "duration", since(start))
	}
	owned := c.lags.remove(partitions)
	c.log.Info("partitions revoked", "group", c.group, "topic", c.topic, "partitions", sorted(partitions), "owned", owned)
}

// onLost can commit nothing: other members may own the partitions by now.
func (c *Consumer) onLost(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	c.marked.Store(false)
	if partitions := gone[c.topic]; len(partitions) > 0 {
		owned := c.lags.remove(partitions)
		c.log.Warn("partitions lost: the member was removed from its group and rejoins it", "group", c.group, "topic", c.topic, "partitions", sorted(partitions), "owned", owned)
	}
}

func sorted(partitions []int32) []int32 { return slices.Sorted(slices.Values(partitions)) }

// commit commits what is marked and waits until that ends, or ctx or commitTimeout does.
// (The client may wait longer, for an earlier commit that gets no response.)
func (c *Consumer) commit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	go func() {
		defer cancel()
		c.client.CommitOffsetsSync(ctx, c.client.MarkedOffsets(), c.onCommit)
	}()
	<-ctx.Done()
}

// onAutoCommit handles the outcome of a commit that the client started by itself.
func (c *Consumer) onAutoCommit(client *kgo.Client, request *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
	if !errors.Is(err, context.Canceled) { // otherwise the member is leaving, and commits once more
		c.onCommit(client, request, response, err)
	}
}

// onCommit handles the outcome of a commit. A failure does no harm: the client retries,
// or another member applies the records again, to no effect.
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
		c.log.Warn("offsets not committed yet: if the member ends before they are, the records are consumed again and count as duplicates",
			"group", c.group, "topic", c.topic, "error", err)
		if len(failed) == 0 {
			return
		}
	}
	for _, t := range request.Topics {
		for _, p := range t.Partitions {
			if !failed[p.Partition] {
				c.countLost(p.Partition, c.positions.committed(p.Partition, p.Offset))
			}
		}
	}
}

// renewTopic makes the client switch to the recreated topic if err says that the old one
// was deleted: the new one has another id. The client does not commit offsets of the old
// topic to the new one, provided that the brokers support topic ids in commits (Kafka
// 4.0). A group should be stopped before its topic is deleted.
func (c *Consumer) renewTopic(err error) {
	if errors.Is(err, kerr.UnknownTopicID) {
		c.client.PurgeTopicsFromConsuming(c.topic)
		c.client.AddConsumeTopics(c.topic)
	}
}
