package consumer_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"hash/crc32"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/tracking"
)

// gzipped is how many records a batch of produceGzip claims to hold.
const gzipped = 3

// produceGzip writes a batch with compressed as its data.
func (s *system) produceGzip(partition int32, compressed []byte) (offset int64) {
	s.t.Helper()
	return s.produceGzipAt(partition, compressed, time.Now())
}

func (s *system) produceGzipAt(partition int32, compressed []byte, at time.Time) (offset int64) {
	s.t.Helper()
	now := at.UnixMilli()
	batch := kmsg.RecordBatch{
		Length: int32(49 + len(compressed)), PartitionLeaderEpoch: -1, Magic: 2, Attributes: 1, // gzip
		FirstTimestamp: now, MaxTimestamp: now, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: gzipped, LastOffsetDelta: gzipped - 1, Records: compressed,
	}
	const checked = 21 // where the checksummed part begins
	batch.CRC = int32(crc32.Checksum(batch.AppendTo(nil)[checked:], crc32.MakeTable(crc32.Castagnoli)))
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis = -1, 10_000
	of := kmsg.NewProduceRequestTopic()
	of.Topic, of.TopicID = topic, s.broker.Cluster.TopicInfo(topic).TopicID
	in := kmsg.NewProduceRequestTopicPartition()
	in.Partition, in.Records = partition, batch.AppendTo(nil)
	of.Partitions = append(of.Partitions, in)
	request.Topics = append(request.Topics, of)
	response, err := request.RequestWith(s.ctx, s.client)
	if err != nil {
		s.t.Fatal(err)
	}
	result := response.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(result.ErrorCode); err != nil {
		s.t.Fatal(err)
	}
	return result.BaseOffset
}

// elsewhere produces n opens in other partitions. behind is how many fell into this one
// on the way.
func (s *system) elsewhere(partition int32, n int) (behind int) {
	s.t.Helper()
	for sent := 0; sent < n; {
		if s.opens(uuid.New(), sent, 1) != partition {
			sent++
		} else {
			behind++
		}
	}
	return behind
}

// A batch that nobody can read holds up its own partition, not the member, and no
// longer than it is there.
func TestFetch_CorruptBatchHoldsUpItsPartition(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	m := s.start(&tracking.Store{Pool: s.pool}, impatient)
	email := uuid.New()
	p := s.opens(email, 0, 1)
	s.committed()
	corrupt := s.produceGzip(p, []byte("no gzip"))
	s.opens(email, 1, 1)
	s.until("the member to try twice", func() bool { return strings.Count(m.logs.String(), "partition pausing") >= 2 })
	before := sum(t, "mailtally_events_applied_total", m)
	for n := range 20 { // one after the other: each would wait for a paused member
		s.elsewhere(p, 1)
		s.until("the others to be applied", func() bool { return sum(t, "mailtally_events_applied_total", m) > before+n })
	}
	if strings.Contains(m.logs.String(), `msg="pausing`) {
		t.Errorf("the member paused: %s", m.logs)
	}
	if at := s.broker.Cluster.GroupInfo(group).Commits[topic][p].Offset; at != corrupt {
		t.Errorf("committed %d of the partition, want %d", at, corrupt)
	}
	second := s.skip(m, p, corrupt, "partition pausing")
	s.committed()
	second.stop()
	if n := s.number("SELECT open_count FROM mailtally.email WHERE id = $1", email); n != 2 {
		t.Errorf("open_count is %d, want 2", n)
	}
}

// A batch that unpacks to more than a member accepts is logged, and stops only its
// partition.
func TestFetch_BatchUnpacksToTooMuch(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	m := s.start(&tracking.Store{Pool: s.pool}, impatient)
	email := uuid.New()
	p := s.opens(email, 0, 1)
	s.committed()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	for range 65 {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	tooLarge := s.produceGzip(p, packed.Bytes())
	s.opens(email, 1, 1)
	s.until("the member to report it", func() bool { return strings.Contains(m.logs.String(), "partition stuck") })
	before := sum(t, "mailtally_events_applied_total", m)
	behind := 1 + s.elsewhere(p, 1)
	s.until("the others to be applied", func() bool { return sum(t, "mailtally_events_applied_total", m) > before })
	s.until("all but the batch and those behind it to be committed", func() bool { return s.uncommitted() == gzipped+int64(behind) })
	second := s.skip(m, p, tooLarge, "partition stuck")
	s.committed()
	second.stop()
}

// skip does what the runbook advises: it stops the member, moves the group to where the
// log says that the batch at an offset ends, and starts another member.
func (s *system) skip(m *member, partition int32, offset int64, message string) *member {
	s.t.Helper()
	said := regexp.MustCompile(fmt.Sprintf(`level=ERROR msg="%s.* partition=%d offset=%d next_offset=(\d+)`, message, partition, offset))
	s.until("the log to say where the batch ends", func() bool { return said.MatchString(m.logs.String()) })
	next, err := strconv.ParseInt(said.FindStringSubmatch(m.logs.String())[1], 10, 64)
	if err != nil || next != offset+gzipped {
		s.t.Errorf("the batch at %d is said to end before %d", offset, next)
	}
	m.stop()
	s.reconciled(m)
	var offsets kadm.Offsets
	offsets.AddOffset(topic, partition, next, -1)
	if err := s.admin.CommitAllOffsets(s.ctx, group, offsets); err != nil {
		s.t.Fatal(err)
	}
	return s.start(&tracking.Store{Pool: s.pool}, impatient)
}
