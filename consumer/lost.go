package consumer

import (
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// positions track where a member is in its partitions, to find records that Kafka's
// retention removed before the group consumed them. Those are the offsets between the
// last record polled (or, before the first one, the group's committed offset) and the
// next record, as far as they are below the partition's oldest record. Gaps above that
// are compacted records or those of aborted transactions, not losses. So
//
//   - a group that has never committed loses nothing that was removed before it started,
//     since it starts at the oldest record. It cannot be told from a group whose
//     committed offsets have expired, which may have lost all of that: a warning is
//     logged, and nothing is counted;
//   - a recreated topic loses nothing either, since its offsets go back. A topic
//     truncated by an unclean leader election does lose records, but that cannot be seen
//     here: new records reuse the lost offsets;
//   - offsets that held no record count as records if they are removed together with
//     others, and so do records whose events were applied but not committed.
//
// A loss is counted and logged when an offset beyond it is committed: until then, any
// later owner of the partition finds it again; afterwards, nobody does. So log and metric
// agree, and report each loss once per group, unless the response to a commit is lost
// together with the partition, or a member dies with its counters. If no record follows
// the removed ones, the loss is found when one does.
type positions struct {
	mu sync.Mutex
	of map[int32]*position
}

type position struct {
	next    int64 // the next offset, if nothing is missing
	isFirst bool  // nothing was polled yet; next is the committed offset
	lost    []gap // found, but no offset beyond them is committed
}

// gap is a range of missing offsets, up to the next one that exists.
type gap struct{ from, to int64 }

// begin records the committed offsets of newly assigned partitions. Those without one
// stay unknown.
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

// findLost advances by what was polled.
func (c *Consumer) findLost(fetches kgo.Fetches) {
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		begins, isBefore := c.positions.advance(f.FetchPartition)
		if isBefore {
			// The client accepts no mark below an offset that was committed in a later
			// epoch. After the rewind it does, and fetches these records again.
			first := f.Records[0]
			c.rewind(offsets{f.Partition: {Epoch: first.LeaderEpoch, Offset: first.Offset}})
		}
		if begins > 0 {
			c.log.Warn("no committed offset: the group starts at the oldest record. Either the group is new, or its offsets have expired; in that case up to as many records as the offset says were never counted. Keep the brokers' offsets.retention.minutes above the topic's retention",
				"topic", f.Topic, "partition", f.Partition, "offset", begins, "group", c.group)
		}
	})
}

// advance moves past the records of a fetch and notes what is missing before them. begins
// is the offset of the oldest record, if these are the partition's first records and
// nothing was committed. isBefore says that they are the first and are below the
// committed offset, as in a recreated topic.
func (p *positions) advance(f kgo.FetchPartition) (begins int64, isBefore bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, known := p.of[f.Partition]
	removed := f.LogStartOffset // up to here; records fetched before that are not lost
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

// next is the next offset of a partition; -1 if nothing is known of it.
func (p *positions) next(partition int32) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := p.of[partition]; at != nil {
		return at.next
	}
	return -1
}

// rewind goes back to offsets that will be fetched again. Losses found beyond them will
// be found again, perhaps larger.
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

// committed removes and returns the final losses of a partition, now that the group has
// committed an offset.
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

// countLost counts and logs final losses.
func (c *Consumer) countLost(partition int32, lost []gap) {
	for _, g := range lost {
		c.metrics.lost.Add(float64(g.to - g.from))
		c.log.Error("records lost: Kafka's retention removed them before the group had consumed them; raise the topic's retention above the longest time the group may be down, and have the provider resend these webhooks if it can",
			"topic", c.topic, "partition", partition, "offset", g.from, "records", g.to-g.from, "group", c.group)
	}
}
