package consumer_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/consumer"
	"github.com/mailtally/mailtally/tracking"
)

// lags gives a member's lags, by partition.
func lags(t *testing.T, m *member) map[string]int {
	t.Helper()
	by := make(map[string]int)
	for _, series := range gather(t, m, "mailtally_consumer_lag").GetMetric() {
		if got := label(series, "topic"); got != topic {
			t.Errorf("a lag of topic %q", got)
		}
		by[label(series, "partition")] = int(series.GetGauge().GetValue())
	}
	return by
}

// hasLag waits until the member shows this lag over all its partitions. It measures now,
// but the member itself may be measuring since before.
func (m *member) hasLag(s *system, want int) {
	s.t.Helper()
	s.until(fmt.Sprintf("a lag of %d", want), func() bool {
		m.MeasureLag(s.ctx)
		return sum(s.t, "mailtally_consumer_lag", m) == want
	})
}

// The lag is the records after the committed offset, even after retention has removed
// some of them, and without those.
func TestConsumer_LagAfterRetention(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	pool, proxy := s.proxied()
	m := s.start(&tracking.Store{Pool: pool}, impatient)
	email := uuid.New()
	first := webhook(email, tracking.Opened, 0)
	s.produce(first, webhook(email, tracking.Opened, 1), webhook(email, tracking.Opened, 2))
	s.committed()
	proxy.Away(true)
	for n := 3; n < 10; n++ {
		s.produce(webhook(email, tracking.Opened, n))
	}
	m.hasLag(s, 7)
	for _, removed := range []struct {
		before int64
		lag    int
	}{{8, 2}, {10, 0}} {
		s.remove(first.Partition, removed.before)
		m.hasLag(s, removed.lag)
	}
	proxy.Away(false)
	m.stop()
}

// If the committed offset is beyond the end, as after a topic was recreated, the group
// starts at the oldest record: all records are lag.
func TestConsumer_LagOfAShorterTopic(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	pool, proxy := s.proxied()
	proxy.Away(true)
	email := uuid.New()
	records := make([]*kgo.Record, 5)
	for n := range records {
		records[n] = webhook(email, tracking.Opened, n)
	}
	s.produce(records...)
	var offsets kadm.Offsets
	offsets.AddOffset(topic, records[0].Partition, 100, -1)
	if err := s.admin.CommitAllOffsets(s.ctx, group, offsets); err != nil {
		t.Fatal(err)
	}
	m := s.start(&tracking.Store{Pool: pool})
	s.until("a lag of 5", func() bool { return sum(t, "mailtally_consumer_lag", m) == 5 })
	proxy.Away(false)
	m.stop()
}

// Each partition's lag is shown by the member that owns it, and by no other: over the
// group it counts once, before, during and after a rebalance.
func TestConsumer_LagMovesWithThePartition(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	pool, proxy := s.proxied()
	proxy.Away(true) // so that the lag does not change
	want := make(map[string]int)
	for n := range 50 {
		r := webhook(uuid.New(), tracking.Opened, n)
		s.produce(r)
		want[fmt.Sprint(r.Partition)]++
	}
	if len(want) != partitions {
		t.Fatalf("records in %d partitions: the test proves nothing", len(want))
	}
	first := s.start(&tracking.Store{Pool: pool})
	s.until("the first member to show all", func() bool { return maps.Equal(lags(t, first), want) })

	second := s.start(&tracking.Store{Pool: pool})
	s.joined(2)
	s.until("both to share them", func() bool {
		one, other := lags(t, first), lags(t, second)
		both := maps.Clone(one)
		maps.Copy(both, other)
		return len(one) > 0 && len(other) > 0 && len(one)+len(other) == partitions && maps.Equal(both, want)
	})
	for m, lags := range map[*member]int{first: len(lags(t, first)), second: len(lags(t, second))} {
		if n := sum(t, "mailtally_partitions_owned", m); n != lags {
			t.Errorf("a member shows the lag of %d partitions, and owns %d", lags, n)
		}
	}
	first.stop()
	if n, owned := len(lags(t, first)), sum(t, "mailtally_partitions_owned", first); n != 0 || owned != 0 {
		t.Errorf("a member that has left shows %d lags and owns %d partitions", n, owned)
	}
	s.until("the second member to show all", func() bool { return maps.Equal(lags(t, second), want) })
	if n := sum(t, "mailtally_partitions_owned", second); n != partitions {
		t.Errorf("the second member owns %d partitions, want %d", n, partitions)
	}
	proxy.Away(false)
	second.stop()
}

// While Kafka does not answer there is no lag, instead of the last one forever; once it
// answers, there is.
func TestConsumer_LagWhileKafkaDoesNotTell(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	m := s.start(&tracking.Store{Pool: s.pool})
	s.until("a lag", func() bool { return len(lags(t, m)) == partitions })
	var away atomic.Bool
	away.Store(true)
	s.broker.Cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.broker.Cluster.KeepControl()
		return nil, errors.New("away"), away.Load()
	})
	s.until("no lag", func() bool { return len(lags(t, m)) == 0 && len(ages(t, m)) == 0 })
	away.Store(false)
	s.until("a lag again", func() bool { return len(lags(t, m)) == partitions && len(ages(t, m)) == partitions })
	m.stop()
}

// One of several brokers does not answer: the lag of the others' partitions is shown
// all the same.
func TestConsumer_LagWhileABrokerDoesNotTell(t *testing.T) {
	t.Parallel()
	s := newSystem(t, kfake.NumBrokers(3))
	for p := range int32(partitions) {
		if err := s.broker.Cluster.MoveTopicPartition(topic, p, p%3); err != nil {
			t.Fatal(err)
		}
	}
	pool, proxy := s.proxied()
	m := s.start(&tracking.Store{Pool: pool}, impatient)
	s.joined(1)
	owned := make(map[string]bool) // by the broker that does not answer
	var silent int32
	for p := range int32(partitions) {
		leader := s.broker.Cluster.LeaderFor(topic, p)
		if p == 0 {
			silent = leader
		}
		owned[fmt.Sprint(p)] = leader == silent
	}
	s.broker.Cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.broker.Cluster.KeepControl()
		return nil, errors.New("away"), s.broker.Cluster.CurrentNode() == silent
	})
	proxy.Away(true)
	want := make(map[string]int)
	for n := 0; len(want) < partitions; n++ {
		r := webhook(uuid.New(), tracking.Opened, n)
		s.produce(r)
		want[fmt.Sprint(r.Partition)]++
	}
	maps.DeleteFunc(want, func(p string, _ int) bool { return owned[p] })
	if len(want) == 0 || len(want) == partitions {
		t.Fatalf("the other brokers have %d partitions: the test proves nothing", len(want))
	}
	s.until("the lag of the others", func() bool { return maps.Equal(lags(t, m), want) })
	proxy.Away(false)
	m.stop()
}

// Nobody reads the member's log: a scrape is answered all the same.
func TestConsumer_ScrapeWhileLogsAreStuck(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	read, write := io.Pipe()
	m := s.start(&tracking.Store{Pool: s.pool}, func(o *consumer.Options) { o.Logger = slog.New(slog.NewTextHandler(write, nil)) })
	if _, err := read.Read(make([]byte, 1)); err != nil { // and no more: "partitions assigned" blocks
		t.Fatal(err)
	}
	var err error
	scraped := make(chan error, 1)
	go func() {
		_, err := m.reg.Gather()
		scraped <- err
	}()
	select {
	case err = <-scraped:
	case <-time.After(patience):
		err = errors.New("the scrape waits for the log's reader")
	}
	go io.Copy(io.Discard, read)
	if err != nil {
		t.Error(err)
	}
	m.stop()
	write.Close()
}

// A member whose topic was never created says so: it has no partition, no lag and no
// other error.
func TestConsumer_TopicDoesNotExist(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	m := s.start(&tracking.Store{Pool: s.pool}, func(o *consumer.Options) { o.Topic = "none" })
	s.until("the member says that its topic does not exist", func() bool { return len(lines(m, "topic does not exist")) > 0 })
}
