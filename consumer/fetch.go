package consumer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// fetchAhead is how many uncompressed bytes are fetched ahead of the window, from all
	// brokers together. (Kafka always sends at least a whole batch, however large.
	// mailtally's own producer writes none above 1 MiB uncompressed.)
	fetchAhead = 24 << 20

	// Limits of a fetch request, in compressed bytes as stored in Kafka; the number of
	// partitions that share it; and the number of brokers asked at once.
	maxFetchBytes   = 2 << 20
	minFetchBytes   = 64 << 10
	fetchPartitions = 4
	fetchBrokers    = 3

	// leastRatio is what fetches are sized for at the least: single records hardly
	// compress, and a backlog of the same ones does. A ratio is forgotten over so many
	// compressed bytes.
	leastRatio  = 12
	forgetBytes = 8 << 20

	// maxUnpackedBatch is the largest uncompressed size allowed for one Kafka batch, with
	// recordOverhead for each record.
	// Compressed, a batch is limited to 1 MiB by default, whoever wrote it.
	maxUnpackedBatch = 64 << 20
)

// fetchSize sizes fetches so that they amount to fetchAhead once uncompressed, based on
// recent compression ratios. It is a hook of the client.
type fetchSize struct {
	client *kgo.Client

	mu      sync.Mutex
	ratio   float64            // uncompressed to compressed: the recent maximum
	brokers map[int32]struct{} // that have sent data
}

// newFetchSize assumes a high compression ratio until data has arrived.
func newFetchSize() *fetchSize { return &fetchSize{ratio: 50, brokers: make(map[int32]struct{})} }

// OnNewClient implements [kgo.HookNewClient].
func (f *fetchSize) OnNewClient(client *kgo.Client) { f.client = client }

// OnFetchBatchRead implements [kgo.HookFetchBatchRead].
func (f *fetchSize) OnFetchBatchRead(broker kgo.BrokerMetadata, _ string, _ int32, m kgo.FetchBatchMetrics) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ratio := float64(m.UncompressedBytes+m.NumRecords*recordOverhead) / float64(max(1, m.CompressedBytes))
	f.ratio = max(ratio, f.ratio*math.Exp(-float64(m.CompressedBytes)/forgetBytes), leastRatio)
	f.brokers[broker.NodeID] = struct{}{}
	f.client.UpdateFetchMaxBytes(f.bytes())
}

// bytes is how many bytes a fetch asks for in all, and from a single partition.
func (f *fetchSize) bytes() (all, partition int32) {
	brokers := min(max(1, len(f.brokers)), fetchBrokers)
	n := int32(min(max(fetchAhead/float64(brokers)/f.ratio, minFetchBytes), maxFetchBytes))
	return n, n / fetchPartitions
}

// MemoryLimit is the [runtime/debug.SetMemoryLimit] for a process with one member and
// default options. At full speed the collector then runs more often, instead of letting
// garbage grow to the size of the live heap. The process takes some 15 MB more.
const MemoryLimit = 104 << 20

// pauseFailing pauses partitions whose fetches fail (because of a corrupt batch, say),
// each with its own back-off, while the others continue. It returns the errors that do not
// concern a single partition; Run backs off for those.
func (c *Consumer) pauseFailing(fetches kgo.Fetches) error {
	var errs []error
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		var tooLarge *kgo.ErrDecompressTooLarge
		switch {
		case f.Err == nil, errors.Is(f.Err, context.Canceled), errors.Is(f.Err, context.DeadlineExceeded): // the poll was told to stop waiting
		case f.Topic == "": // of the group
			errs = append(errs, f.Err)
		case f.Partition < 0, errors.Is(f.Err, kerr.UnknownTopicID): // of the topic
			errs = append(errs, fmt.Errorf("fetch from topic %q: %w", f.Topic, f.Err))
		case errors.As(f.Err, &tooLarge): // the client no longer fetches from it
			c.log.Error("partition stuck: a batch unpacks to more than a member has memory for; other partitions continue. Move the group past it (the runbook has the command), and have its webhooks sent again",
				"group", c.group, "topic", f.Topic, "partition", f.Partition, "offset", tooLarge.Offset, "next_offset", tooLarge.NextOffset, "error", f.Err)
		default:
			offset := max(f.LogStartOffset, c.positions.next(f.Partition))
			wait := c.pausePartition(f.Partition)
			c.log.Error("partition pausing: its fetch failed, and is tried again; other partitions continue. If it is a batch that cannot be read, move the group past it (the runbook has the command)",
				"group", c.group, "topic", f.Topic, "partition", f.Partition, "offset", offset, "next_offset", c.lags.after(f.Partition, offset),
				"error", f.Err, "retry_in", wait.Round(time.Millisecond).String())
		}
	})
	return errors.Join(errs...)
}

// pausePartition stops fetching from a partition, for a time that grows until mark says
// that the partition has got on.
func (c *Consumer) pausePartition(partition int32) (wait time.Duration) {
	if c.failing[partition] == nil {
		c.failing[partition] = newBackOff()
	}
	wait = c.failing[partition].NextBackOff()
	one := map[string][]int32{c.topic: {partition}}
	c.client.PauseFetchPartitions(one)
	time.AfterFunc(wait, func() { c.client.ResumeFetchPartitions(one) })
	return wait
}

// newBackOff starts at half a second and grows by half each time, up to maxPause, each
// ± 50 %.
func newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.MaxInterval = maxPause
	return b
}
