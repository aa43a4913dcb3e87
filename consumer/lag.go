package consumer

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
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

// lags are those of the partitions that a member owns, and their collector.
//
// A series is there while this member owns the partition, so that over the group
// each has one, and while it is fresh: when Kafka has not answered for lagFresh the
// number would say that all is well, or no worse than it was, for as long as Kafka
// is away. Exporters of the lag do the same: they show what they could ask for.
type lags struct {
	topic string
	desc  *prometheus.Desc
	added chan struct{} // has one when partitions have come whose lag is not known

	mu sync.Mutex
	of map[int32]lag // each partition owned
}

// lag is that of one partition; the zero value is none.
type lag struct {
	records int64
	at      time.Time
}

func newLags(topic string) lags {
	return lags{
		topic: topic,
		desc: prometheus.NewDesc("mailtally_consumer_lag",
			"Records of a partition that the group has not committed yet, those that retention has removed apart. It is shown by the member that owns the partition; there is none while Kafka does not answer it.",
			[]string{"topic", "partition"}, nil),
		added: make(chan struct{}, 1),
		of:    make(map[int32]lag),
	}
}

// Describe implements [prometheus.Collector].
func (l *lags) Describe(to chan<- *prometheus.Desc) { to <- l.desc }

// Collect implements [prometheus.Collector].
func (l *lags) Collect(to chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, lag := range l.of {
		if time.Since(lag.at) < lagFresh {
			to <- prometheus.MustNewConstMetric(l.desc, prometheus.GaugeValue, float64(lag.records), l.topic, strconv.Itoa(int(p)))
		}
	}
}

// add takes in partitions that have come, and returns how many are owned now.
func (l *lags) add(partitions []int32) (owned int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range partitions {
		l.of[p] = lag{}
	}
	select {
	case l.added <- struct{}{}:
	default: // it has one
	}
	return len(l.of)
}

// remove forgets partitions that have gone, and returns how many are left.
func (l *lags) remove(partitions []int32) (owned int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range partitions {
		delete(l.of, p)
	}
	return len(l.of)
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
			case <-c.lags.added:
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
	c.lags.mu.Lock()
	defer c.lags.mu.Unlock()
	for p := range c.lags.of {
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
		c.lags.of[p] = lag{max(0, end.Offset-from), now}
	}
}
