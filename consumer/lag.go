package consumer

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lagInterval is how often the lag is asked for.
const lagInterval = 5 * time.Second

// assignment is the partitions that a member owns, for its lag metric.
type assignment struct {
	mu         sync.Mutex
	partitions map[int32]bool
}

func (c *Consumer) onAssigned(_ context.Context, _ *kgo.Client, added map[string][]int32) {
	if len(added[c.topic]) == 0 {
		return
	}
	c.assigned.mu.Lock()
	defer c.assigned.mu.Unlock()
	if c.assigned.partitions == nil {
		c.assigned.partitions = make(map[int32]bool)
	}
	for _, p := range added[c.topic] {
		c.assigned.partitions[p] = true
	}
	c.log.Info("partitions assigned", "group", c.group, "topic", c.topic, "partitions", sorted(added[c.topic]), "owned", len(c.assigned.partitions))
}

func (c *Consumer) onRevoked(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	if owned, some := c.unassign(gone[c.topic]); some {
		c.log.Info("partitions revoked", "group", c.group, "topic", c.topic, "partitions", sorted(gone[c.topic]), "owned", owned)
	}
}

func (c *Consumer) onLost(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	if owned, some := c.unassign(gone[c.topic]); some {
		c.log.Warn("partitions lost: the member is out of its group, and joins it anew", "group", c.group, "topic", c.topic, "partitions", sorted(gone[c.topic]), "owned", owned)
	}
}

func sorted(partitions []int32) []int32 { return slices.Sorted(slices.Values(partitions)) }

// unassign forgets partitions. some says that there were any, and owned how many
// are left.
func (c *Consumer) unassign(partitions []int32) (owned int, some bool) {
	c.offsets.drop(partitions)
	c.assigned.mu.Lock()
	defer c.assigned.mu.Unlock()
	for _, p := range partitions {
		delete(c.assigned.partitions, p)
		c.metrics.lag.DeleteLabelValues(c.topic, strconv.Itoa(int(p)))
	}
	return len(c.assigned.partitions), len(partitions) > 0
}

// watchLag keeps the lag metric until ctx ends. The function it returns waits
// for that.
func (c *Consumer) watchLag(ctx context.Context) (wait func()) {
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(lagInterval)
		defer ticker.Stop()
		for {
			c.measureLag(ctx)
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return running.Wait
}

// measureLag sets the lag of each partition owned: from the committed offset, or
// from the oldest record there is where nothing is committed or retention has
// overtaken it, to the end. Where Kafka does not answer the metric keeps its
// value.
func (c *Consumer) measureLag(ctx context.Context) {
	admin := kadm.NewClient(c.client)
	starts, err := admin.ListStartOffsets(ctx, c.topic)
	if err != nil {
		return
	}
	ends, err := admin.ListEndOffsets(ctx, c.topic)
	if err != nil {
		return
	}
	committed, err := admin.FetchOffsets(ctx, c.group)
	if err != nil {
		return
	}
	c.assigned.mu.Lock()
	defer c.assigned.mu.Unlock()
	for p := range c.assigned.partitions {
		start, ok := starts.Lookup(c.topic, p)
		end, ok2 := ends.Lookup(c.topic, p)
		if !ok || !ok2 || start.Err != nil || end.Err != nil {
			continue
		}
		from := start.Offset
		if at, ok := committed.Lookup(c.topic, p); ok && at.Err == nil {
			from = max(from, at.At)
		}
		c.metrics.lag.WithLabelValues(c.topic, strconv.Itoa(int(p))).Set(float64(max(0, end.Offset-from)))
	}
}
