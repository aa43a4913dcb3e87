package consumer

import (
	"bytes"
	"compress/gzip"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A batch of very many tiny records takes far more memory than it has bytes.
func TestUnpack_TinyRecordsAreBounded(t *testing.T) {
	t.Parallel()
	u, err := newUnpacking()
	if err != nil {
		t.Fatal(err)
	}
	if u.client, err = kgo.NewClient(); err != nil {
		t.Fatal(err)
	}
	defer u.client.Close()
	tiny := []byte{6 << 1, 0, 0, 0, 0, 0, 0} // a length of 6, and everything empty
	for n, want := range map[int]error{1_000: nil, 1_000_000: kgo.ErrMaxDecompress} {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		if _, err := w.Write(bytes.Repeat(tiny, n)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		unpacked, err := u.Decompress(packed.Bytes(), kgo.CodecGzip)
		if !errors.Is(err, want) {
			t.Errorf("%d records unpack with %v, want %v", n, err, want)
		}
		if want == nil && records(unpacked) != n {
			t.Errorf("%d records are counted, want %d", records(unpacked), n)
		}
	}
}
