package consumer

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// lagInterval is how often the lag is asked for: five requests, the two of
	// metadata among them, which is little beside what a member fetches and commits.
	lagInterval = 5 * time.Second

	// lagFresh is how long a lag is shown that Kafka has not told anew.
	lagFresh = 3 * lagInterval

	// noPartition is where kadm puts the error of a whole topic.
	noPartition = -1
)

// assignment is the partitions that a member owns, and the collector of their lag.
//
// A series is there while this member owns the partition, so that over the group
// each has one, and while it is fresh: when Kafka has not answered for lagFresh the
// number would say that all is well, or no worse than it was, for as long as Kafka
// is away. Exporters of the lag do the same: they show what they could ask for.
type assignment struct {
	topic string
	desc  *prometheus.Desc
	added chan struct{} // has one when partitions have come whose lag is not known

	mu         sync.Mutex
	partitions map[int32]lag
}

// lag is that of one partition; the zero value is none.
type lag struct {
	records int64
	at      time.Time
}

func newAssignment(topic string) *assignment {
	return &assignment{
		topic: topic,
		desc: prometheus.NewDesc("mailtally_consumer_lag",
			"Records of a partition that the group has not committed yet, those that retention has removed apart. It is shown by the member that owns the partition; there is none while Kafka does not answer it.",
			[]string{"topic", "partition"}, nil),
		added:      make(chan struct{}, 1),
		partitions: make(map[int32]lag),
	}
}

// Describe implements [prometheus.Collector].
func (a *assignment) Describe(to chan<- *prometheus.Desc) { to <- a.desc }

// Collect implements [prometheus.Collector].
func (a *assignment) Collect(to chan<- prometheus.Metric) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for p, l := range a.partitions {
		if time.Since(l.at) < lagFresh {
			to <- prometheus.MustNewConstMetric(a.desc, prometheus.GaugeValue, float64(l.records), a.topic, strconv.Itoa(int(p)))
		}
	}
}

func (c *Consumer) onAssigned(_ context.Context, _ *kgo.Client, added map[string][]int32) {
	if len(added[c.topic]) == 0 {
		return
	}
	c.assigned.mu.Lock()
	for _, p := range added[c.topic] {
		c.assigned.partitions[p] = lag{}
	}
	owned := len(c.assigned.partitions)
	c.assigned.mu.Unlock()
	select {
	case c.assigned.added <- struct{}{}:
	default: // it has one
	}
	c.log.Info("partitions assigned", "group", c.group, "topic", c.topic, "partitions", sorted(added[c.topic]), "owned", owned)
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
	}
	return len(c.assigned.partitions), len(partitions) > 0
}

// watchLag keeps the lag until ctx ends. The function it returns waits for that.
func (c *Consumer) watchLag(ctx context.Context) (wait func()) {
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(lagInterval)
		defer ticker.Stop()
		for {
			c.measureLag(ctx)
			select {
			case <-c.assigned.added:
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return running.Wait
}

// measureLag finds the lag of each partition owned: the records from the committed
// offset to the end; or from the oldest one that there is, which is where the group
// begins or goes on, if it has committed nothing, if retention has overtaken it, or
// if the topic was made anew and is shorter. The end is asked for after the committed
// offset, which is beyond it for no other reason.
func (c *Consumer) measureLag(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lagInterval)
	defer cancel()
	admin := kadm.NewClient(c.client)
	committed, err := admin.FetchOffsets(ctx, c.group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // that is: it has never had a member
		return
	}
	// Both at once: a broker that does not answer takes all the time, and the lag of
	// the others' partitions is known all the same.
	var starts, ends kadm.ListedOffsets
	var asking sync.WaitGroup
	asking.Go(func() { starts, _ = admin.ListStartOffsets(ctx, c.topic) })
	asking.Go(func() { ends, _ = admin.ListEndOffsets(ctx, c.topic) })
	asking.Wait()
	if none, found := starts.Lookup(c.topic, noPartition); found && errors.Is(none.Err, kerr.UnknownTopicOrPartition) {
		// kgo waits for it without a word.
		c.log.Warn("topic does not exist: nothing can be consumed until mailtally migrate makes it", "topic", c.topic)
	}
	now := time.Now()
	c.assigned.mu.Lock()
	defer c.assigned.mu.Unlock()
	for p := range c.assigned.partitions {
		start, ok := starts.Lookup(c.topic, p)
		end, ok2 := ends.Lookup(c.topic, p)
		at, ok3 := committed.Lookup(c.topic, p)
		if !ok || !ok2 || start.Err != nil || end.Err != nil || ok3 && at.Err != nil {
			continue
		}
		from := start.Offset
		if ok3 && at.At > from && at.At <= end.Offset {
			from = at.At
		}
		c.assigned.partitions[p] = lag{max(0, end.Offset-from), now}
	}
}
