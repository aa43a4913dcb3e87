package consumer

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// However compressible webhooks are, and however many brokers they come from, what is
// requested unpacks to no more than fetchAhead.
func TestFetchSize(t *testing.T) {
	t.Parallel()
	client, err := kgo.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, ratio := range []int{1, 4, 12, 50} {
		f := newFetchSize()
		f.client = client
		for broker := range int32(5) {
			f.OnFetchBatchRead(kgo.BrokerMetadata{NodeID: broker}, "t", 0, kgo.FetchBatchMetrics{NumRecords: 100, UncompressedBytes: 60_000, CompressedBytes: 100_000 / ratio})
			all, partition := f.bytes()
			if ahead := int(all) * ratio * min(int(broker)+1, fetchBrokers); ahead > fetchAhead || all < minFetchBytes || all > maxFetchBytes || partition > all {
				t.Errorf("%d:1 from %d brokers: %d bytes a fetch, %d of a partition: %d MiB unpacked", ratio, broker+1, all, partition, ahead>>20)
			}
		}
		// A new ratio takes effect at once; an old one is forgotten slowly.
		f.OnFetchBatchRead(kgo.BrokerMetadata{}, "t", 0, kgo.FetchBatchMetrics{NumRecords: 1, UncompressedBytes: 99_600, CompressedBytes: 1_000})
		least, _ := f.bytes()
		for range 100 { // live traffic, a record at a time, is no reason to expect as little of a backlog
			f.OnFetchBatchRead(kgo.BrokerMetadata{}, "t", 0, kgo.FetchBatchMetrics{NumRecords: 1, UncompressedBytes: 900, CompressedBytes: 800})
		}
		if live, _ := f.bytes(); int(live)*ratio*fetchBrokers > fetchAhead {
			t.Errorf("%d bytes after live traffic", live)
		}
		for range 1000 {
			f.OnFetchBatchRead(kgo.BrokerMetadata{}, "t", 0, kgo.FetchBatchMetrics{NumRecords: 1, UncompressedBytes: 99_600, CompressedBytes: 100_000})
		}
		if most, _ := f.bytes(); least >= most || most != fetchAhead/fetchBrokers/leastRatio {
			t.Errorf("%d bytes after a batch of 100:1, %d after many of 1:1", least, most)
		}
	}
}
