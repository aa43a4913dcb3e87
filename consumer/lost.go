package consumer

import (
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// positions are where a member stands in its partitions, to find what Kafka's
// retention has removed before the group consumed it: the offsets between the last
// record that came, or the group's committed offset before the first one, and the
// next, as far as they lie before the partition's oldest record. What is missing
// after that was compacted, or is a mark of a transaction: it is not lost. So
//
//   - a group that has never committed loses nothing by what was removed before it
//     came, as it begins with the oldest record. Nobody can tell it from one whose
//     committed offsets have expired, which may have lost all of that: it is warned of,
//     and not counted;
//   - a topic that was made anew loses nothing either, as its offsets go back. One that
//     was cut short by an unclean election does, but that is not to be seen here: what
//     comes next takes the offsets of what is gone;
//   - offsets that held no record count like records where they are removed with
//     others, and so do records whose events a member had applied and not committed.
//
// A loss is counted and logged when an offset behind it is committed: until then
// whoever gets the partition finds it again, and afterwards nobody does. So lines and
// metric agree, and have it once over a group, unless the answer to a commit is
// lost with the partition, or a member with its numbers. If no record comes after
// those that were removed, the loss is found when one does.
type positions struct {
	mu sync.Mutex
	of map[int32]*position
}

type position struct {
	next    int64 // offset, if nothing is missing
	isFirst bool  // nothing has come since next was the committed offset
	lost    []gap // found and not committed
}

// gap is the offsets from one to the next that is there.
type gap struct{ from, to int64 }

// begin notes the committed offsets of partitions that come to the member. Those that
// have none are as they were given.
func (p *positions) begin(committed map[int32]kgo.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, offset := range committed {
		delete(p.of, n)
		if at := offset.EpochOffset().Offset; at >= 0 {
			p.of[n] = &position{next: at, isFirst: true}
		}
	}
}

// findLost moves on by what was polled.
func (c *Consumer) findLost(fetches kgo.Fetches) {
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		begins, isBefore := c.positions.advance(f.FetchPartition)
		if isBefore {
			// The client takes no mark before an offset that was committed in a later
			// epoch. Once it is told, it does, and fetches these records again.
			first := f.Records[0]
			c.rewind(offsets{f.Partition: {Epoch: first.LeaderEpoch, Offset: first.Offset}})
		}
		if begins > 0 {
			c.log.Warn("no committed offset: the group begins at the oldest record there is. It is new, or its offsets have expired, and then up to as many records as the offset says are counted nowhere; keep the brokers' offsets.retention.minutes above the topic's retention",
				"topic", f.Topic, "partition", f.Partition, "offset", begins, "group", c.group)
		}
	})
}

// advance moves on behind the records of a fetch, and notes what is missing before
// them. begins is the oldest record's offset, where they are the first ones and
// nothing was committed; isBefore says that they are the first ones, and lie before
// the committed offset, as in a topic that was made anew.
func (p *positions) advance(f kgo.FetchPartition) (begins int64, isBefore bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, known := p.of[f.Partition]
	removed := f.LogStartOffset // up to here; records that were fetched before that are not lost
	if len(f.Records) > 0 {
		removed = min(removed, f.Records[0].Offset)
	}
	if known && at.next < removed {
		at.lost = append(at.lost, gap{at.next, removed})
		at.next = removed
	}
	if n := len(f.Records); n > 0 {
		if !known {
			begins = removed
			at = new(position)
			p.of[f.Partition] = at
		}
		isBefore = at.isFirst && f.Records[0].Offset < at.next
		at.isFirst = false
		at.next = f.Records[n-1].Offset + 1
	}
	return begins, isBefore
}

// rewind goes back to offsets that will be fetched again. What was found to be
// missing behind them will be found again, perhaps with more.
func (p *positions) rewind(to offsets) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, to := range to {
		if at := p.of[n]; at != nil {
			at.next = to.Offset
			at.lost = slices.DeleteFunc(at.lost, func(g gap) bool { return g.to > to.Offset })
		}
	}
}

// committed forgets, and returns, what is lost of a partition for good, now that the
// group stands at an offset.
func (p *positions) committed(partition int32, offset int64) (lost []gap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.of[partition]
	if at == nil {
		return nil
	}
	at.lost = slices.DeleteFunc(at.lost, func(g gap) bool {
		isBehind := g.to <= offset
		if isBehind {
			lost = append(lost, g)
		}
		return isBehind
	})
	return lost
}

// countLost counts and logs what is lost for good.
func (c *Consumer) countLost(partition int32, lost []gap) {
	for _, g := range lost {
		c.metrics.lost.Add(float64(g.to - g.from))
		c.log.Error("records lost: Kafka's retention removed them before the group had consumed them; raise the topic's retention above the longest time that the group may be away, and have the provider send these webhooks again if it can",
			"topic", c.topic, "partition", partition, "offset", g.from, "records", g.to-g.from, "group", c.group)
	}
}
