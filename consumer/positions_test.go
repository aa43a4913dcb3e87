package consumer

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A fetch brings records that are removed while it is answered: they are not lost. No
// broker can be made to do that.
func TestPositions_RemovedAsTheyCome(t *testing.T) {
	t.Parallel()
	p := positions{of: map[int32]*position{3: {next: 5}}}
	p.advance(kgo.FetchPartition{Partition: 3, LogStartOffset: 9, Records: []*kgo.Record{{Offset: 7}, {Offset: 8}, {Offset: 9}}})
	if at := p.of[3]; at.next != 10 || !slices.Equal(at.lost, []gap{{5, 7}}) {
		t.Errorf("next is %d and lost %v, want 10 and those from 5 to 7", at.next, at.lost)
	}
}
