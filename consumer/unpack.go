package consumer

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// maxUnpacked is how many bytes of memory may wait to be polled before no more batches are
// unpacked. Fetches are sized to stay below it, but batches that compress far better than
// those before them (or a first one that does) would exceed it many times over.
const maxUnpacked = 2 * fetchAhead

// unpacking bounds the memory of what is fetched. It is the client's decompressor and a
// hook of it.
//
// A batch that it turns away is fetched again: the client keeps what it has unpacked of a
// partition up to there, and takes the error for one that passes.
type unpacking struct {
	within kgo.Decompressor // bounds a single batch
	client *kgo.Client
	bytes  atomic.Int64 // unpacked since the last response was read; not all is buffered yet
}

func newUnpacking() (*unpacking, error) {
	// The client's own decompressor is the only one whose limit can be set.
	limited, err := kgo.NewClient(kgo.MaxDecompressBatchBytes(maxUnpackedBatch))
	if err != nil {
		return nil, err
	}
	defer limited.Close()
	return &unpacking{within: limited.OptValue(kgo.WithDecompressor).(kgo.Decompressor)}, nil
}

// OnNewClient implements [kgo.HookNewClient].
func (u *unpacking) OnNewClient(client *kgo.Client) { u.client = client }

// OnBrokerRead implements [kgo.HookBrokerRead].
func (u *unpacking) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	const fetch = 1
	if key == fetch {
		u.bytes.Store(0)
	}
}

// Decompress implements [kgo.Decompressor]. Memory goes by records as well as by bytes: the
// smallest record has seven.
func (u *unpacking) Decompress(packed []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if ahead := u.bytes.Load() + u.client.BufferedFetchBytes() + u.client.BufferedFetchRecords()*recordOverhead; ahead > maxUnpacked {
		return nil, fmt.Errorf("%w: %d bytes wait to be polled", kerr.ThrottlingQuotaExceeded, ahead)
	}
	unpacked, err := u.within.Decompress(packed, codec)
	size := len(unpacked) + records(unpacked)*recordOverhead
	if size > maxUnpackedBatch {
		return nil, kgo.ErrMaxDecompress
	}
	u.bytes.Add(int64(size))
	return unpacked, err
}

// records counts the records of an unpacked batch, each of which begins with its length.
// It stops at what is no record.
func records(unpacked []byte) (n int) {
	const smallest = 6 // after its length
	for {
		length, width := binary.Varint(unpacked)
		if width <= 0 || length < smallest || length > int64(len(unpacked)-width) {
			return n
		}
		unpacked = unpacked[width+int(length):]
		n++
	}
}
