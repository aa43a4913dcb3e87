package consumer

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	// lagInterval is how often the lag is measured. It takes five requests, two of them
	// for metadata, which is little beside what a member fetches and commits.
	lagInterval = 5 * time.Second

	// lagFresh is how long a lag is shown without an update from Kafka.
	lagFresh = 3 * lagInterval

	// noPartition is where kadm reports an error of a whole topic.
	noPartition = -1
)

// lags holds the lag of each partition that the member owns, and is its collector.
//
// A series exists while this member owns the partition, so that each has exactly one
// across the group, and while the value is fresh. A value kept past lagFresh would claim
// that all is well, or no worse, for as long as Kafka is down. Other lag exporters do the
// same: they show only what they could ask for.
type lags struct {
	topic string
	desc  *prometheus.Desc
	age   *prometheus.Desc
	count *prometheus.Desc
	added chan struct{} // signalled when partitions were added whose lag is not known

	mu sync.Mutex
	of map[int32]lag // by owned partition
}

// lag is the lag of one partition; the zero value means unknown.
type lag struct {
	records int64
	at      time.Time
	oldest  oldest // if there are any
}

// age is the age of the oldest record at the time of the measurement; 0 if none waits, or
// if its timestamp lies ahead.
func (l *lag) age() time.Duration {
	if l.records == 0 {
		return 0
	}
	return max(0, l.at.Sub(l.oldest.since))
}

func newLags(topic string) lags {
	return lags{
		topic: topic,
		desc: prometheus.NewDesc("mailtally_consumer_lag",
			"Records of a partition that the group has not committed yet, without those that retention has removed. Only the member that owns the partition shows it. There is no value while Kafka does not answer.",
			[]string{"topic", "partition"}, nil),
		age: prometheus.NewDesc("mailtally_consumer_lag_seconds",
			"Age of the oldest record of a partition that the group has not committed yet; 0 if none waits. Shown together with mailtally_consumer_lag.",
			[]string{"topic", "partition"}, nil),
		count: prometheus.NewDesc("mailtally_partitions_owned",
			"Partitions that this member owns. Over the group, as many as the topic has; 0 for a member without a share, or outside of its group.",
			nil, nil),
		added: make(chan struct{}, 1),
		of:    make(map[int32]lag),
	}
}

// Describe implements [prometheus.Collector].
func (l *lags) Describe(to chan<- *prometheus.Desc) {
	to <- l.desc
	to <- l.age
	to <- l.count
}

// Collect implements [prometheus.Collector].
func (l *lags) Collect(to chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	to <- prometheus.MustNewConstMetric(l.count, prometheus.GaugeValue, float64(len(l.of)))
	for p, lag := range l.of {
		if time.Since(lag.at) < lagFresh {
			partition := strconv.Itoa(int(p))
			to <- prometheus.MustNewConstMetric(l.desc, prometheus.GaugeValue, float64(lag.records), l.topic, partition)
			to <- prometheus.MustNewConstMetric(l.age, prometheus.GaugeValue, lag.age().Seconds(), l.topic, partition)
		}
	}
}

// add adds assigned partitions and returns how many are owned now.
func (l *lags) add(partitions []int32) (owned int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range partitions {
		l.of[p] = lag{}
	}
	select {
	case l.added <- struct{}{}:
	default: // already signalled
	}
	return len(l.of)
}

// remove removes partitions that are no longer owned and returns how many are left.
func (l *lags) remove(partitions []int32) (owned int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range partitions {
		delete(l.of, p)
	}
	return len(l.of)
}

// owned returns the owned partitions and their last known lags.
func (l *lags) owned() map[int32]lag {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.of)
}

// after is the offset after the batch at an offset where the group is; -1 if unknown.
func (l *lags) after(partition int32, offset int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.of[partition].oldest; o.isRead && o.offset == offset {
		return o.next
	}
	return -1
}

// update sets the lags of partitions, as far as they are still owned.
func (l *lags) update(measured map[int32]*lag) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, lag := range measured {
		if _, isOwned := l.of[p]; isOwned {
			l.of[p] = *lag
		}
	}
}

// watchLag keeps the lag up to date until ctx ends. The function it returns waits for
// that.
func (c *Consumer) watchLag(ctx context.Context) (wait func()) {
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(lagInterval)
		defer ticker.Stop()
		for known := false; ; {
			known = known || c.warnOfCompaction(ctx)
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

// measureLag finds the lag of each owned partition: the records between the committed
// offset and the end. It counts from the oldest record instead, which is where the group
// starts or resumes, if nothing is committed, if retention has overtaken the committed
// offset, or if the topic was recreated and is shorter. The end is read after the
// committed offset, so a committed offset beyond it can only mean a recreated topic.
func (c *Consumer) measureLag(ctx context.Context) {
	asked, cancel := context.WithTimeout(ctx, lagInterval)
	defer cancel()
	admin := kadm.NewClient(c.client)
	committed, err := admin.FetchOffsets(asked, c.group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // the group has never had a member
		return
	}
	// Ask for both at once: if one broker does not answer, all the time is used up, but
	// the lag of the other brokers' partitions is still known.
	var starts, ends kadm.ListedOffsets
	var asking sync.WaitGroup
	asking.Go(func() { starts, _ = admin.ListStartOffsets(asked, c.topic) })
	asking.Go(func() { ends, _ = admin.ListEndOffsets(asked, c.topic) })
	asking.Wait()
	if none, found := starts.Lookup(c.topic, noPartition); found && errors.Is(none.Err, kerr.UnknownTopicOrPartition) {
		// kgo waits for the topic silently.
		c.log.Warn("topic does not exist: nothing can be consumed until mailtally migrate creates it", "topic", c.topic)
	}
	now := time.Now()
	measured, waiting := make(map[int32]*lag), make(map[int32]*lag)
	for p, last := range c.lags.owned() {
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
		measured[p] = &lag{records: max(0, end.Offset-from), at: now}
		if measured[p].records > 0 {
			measured[p].oldest = last.oldest
			if last.records == 0 || last.oldest.offset != from {
				measured[p].oldest = oldest{offset: from, since: now}
			}
			waiting[p] = measured[p]
		}
	}
	c.findOldest(ctx, waiting)
	c.lags.update(measured)
}
