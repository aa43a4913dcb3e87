package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// fetchAhead is how many bytes are fetched ahead of the window, unpacked, from all
	// brokers together. (Kafka sends a whole batch where that is larger. mailtally's own
	// producer makes none above 1 MiB, unpacked.)
	fetchAhead = 24 << 20

	// A request asks for so many bytes as they lie in Kafka, compressed, of which so
	// many partitions may have a part; and so many brokers are asked at once.
	maxFetchBytes   = 2 << 20
	minFetchBytes   = 64 << 10
	fetchPartitions = 4
	fetchBrokers    = 3

	// maxUnpackedBatch is the most that a single batch of Kafka's may hold, which has
	// 1 MiB by default as it lies there, whoever wrote it.
	maxUnpackedBatch = 64 << 20
)

// fetchSize has fetches ask for as much as comes to fetchAhead once it is unpacked, by
// what came of late. It is a hook of the client.
type fetchSize struct {
	client *kgo.Client

	mu      sync.Mutex
	ratio   float64            // of unpacked to compressed: the greatest of late
	brokers map[int32]struct{} // that have sent something
}

// newFetchSize expects much of little, until something has come.
func newFetchSize() *fetchSize { return &fetchSize{ratio: 50, brokers: make(map[int32]struct{})} }

// OnNewClient implements [kgo.HookNewClient].
func (f *fetchSize) OnNewClient(client *kgo.Client) { f.client = client }

// OnFetchBatchRead implements [kgo.HookFetchBatchRead].
func (f *fetchSize) OnFetchBatchRead(broker kgo.BrokerMetadata, _ string, _ int32, m kgo.FetchBatchMetrics) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ratio := float64(m.UncompressedBytes+m.NumRecords*recordOverhead) / float64(max(1, m.CompressedBytes))
	if len(f.brokers) > 0 {
		const forget = .01 // of it, a batch
		ratio = max(ratio, f.ratio*(1-forget))
	}
	f.ratio = ratio
	f.brokers[broker.NodeID] = struct{}{}
	f.client.UpdateFetchMaxBytes(f.bytes())
}

// bytes is how many a fetch asks for, and of a single partition.
func (f *fetchSize) bytes() (all, partition int32) {
	brokers := min(max(1, len(f.brokers)), fetchBrokers)
	n := int32(min(max(fetchAhead/float64(brokers)/f.ratio, minFetchBytes), maxFetchBytes))
	return n, n / fetchPartitions
}

// MemoryLimit is what a process with one member and the default options should give to
// [runtime/debug.SetMemoryLimit]: the collector then runs more often at full speed,
// rather than let garbage grow to as much as is in use. The process takes some 15 MB
// more.
const MemoryLimit = 104 << 20

// pauseFailing lets partitions whose fetches fail wait for a while, each for itself: a
// batch that is corrupt, say. The others go on. It returns the errors that are not of
// one partition, which Run waits for.
func (c *Consumer) pauseFailing(fetches kgo.Fetches) error {
	var errs []error
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		var tooLarge *kgo.ErrDecompressTooLarge
		switch {
		case f.Err == nil:
			if len(f.Records) > 0 {
				delete(c.failing, f.Partition)
			}
		case errors.Is(f.Err, context.Canceled), errors.Is(f.Err, context.DeadlineExceeded): // the poll was to wait no longer
		case f.Topic == "": // of the group
			errs = append(errs, f.Err)
		case f.Partition < 0, errors.Is(f.Err, kerr.UnknownTopicID): // of the topic
			errs = append(errs, fmt.Errorf("fetch from topic %q: %w", f.Topic, f.Err))
		case errors.As(f.Err, &tooLarge): // the client does not fetch from it any more
			c.log.Error("partition stands still: a batch unpacks to more than a member has memory for; move the group behind it with kafka-consumer-groups, or have it written anew",
				"group", c.group, "topic", f.Topic, "partition", f.Partition, "offset", tooLarge.Offset, "error", f.Err)
		default:
			c.pausePartition(f.Topic, f.Partition, f.Err)
		}
	})
	return errors.Join(errs...)
}

func (c *Consumer) pausePartition(topic string, partition int32, err error) {
	if c.failing[partition] == nil {
		c.failing[partition] = newBackOff()
	}
	wait := c.failing[partition].NextBackOff()
	c.log.Warn("partition pausing: its fetch failed, the others go on",
		"group", c.group, "topic", topic, "partition", partition, "error", err, "retry_in", wait.Round(time.Millisecond).String())
	one := map[string][]int32{topic: {partition}}
	c.client.PauseFetchPartitions(one)
	time.AfterFunc(wait, func() { c.client.ResumeFetchPartitions(one) })
}

// newBackOff begins with half a second and grows by half, up to maxPause; each ± 50 %.
func newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.MaxInterval = maxPause
	return b
}
