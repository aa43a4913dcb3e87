package consumer_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/tracking"
)

// ages gives the age of the oldest waiting record, by partition.
func ages(t *testing.T, m *member) map[string]time.Duration {
	t.Helper()
	by := make(map[string]time.Duration)
	for _, series := range gather(t, m, "mailtally_consumer_lag_seconds").GetMetric() {
		if got := label(series, "topic"); got != topic {
			t.Errorf("an age in topic %q", got)
		}
		by[label(series, "partition")] = time.Duration(series.GetGauge().GetValue() * float64(time.Second))
	}
	return by
}

// old produces a record that claims to be so old, alone in its batch.
func (s *system) old(email uuid.UUID, n int, age time.Duration) (partition int32) {
	s.t.Helper()
	r := webhook(email, tracking.Opened, n)
	r.Timestamp = time.Now().Add(-age)
	s.produce(r)
	return r.Partition
}

// hasAges waits until the member shows this age in one partition, give or take the time
// that the test has taken, and 0 in all others.
func (m *member) hasAges(s *system, partition int32, want time.Duration) {
	s.t.Helper()
	s.until(fmt.Sprintf("an age of %v in partition %d alone", want, partition), func() bool {
		m.MeasureLag(s.ctx)
		all := ages(s.t, m)
		age, rest := all[fmt.Sprint(partition)], time.Duration(0)
		for _, a := range all {
			rest += a
		}
		return len(all) == partitions && rest == age && age >= want && age <= want+30*time.Minute
	})
}

// The age is that of the first record after the committed offset, whatever is behind
// it; nothing that waits is 0.
func TestOldest_FirstThatIsNotCommitted(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	pool, proxy := s.proxied()
	m := s.start(&tracking.Store{Pool: pool}, impatient)
	email := uuid.New()
	p := s.old(email, 0, 9*time.Hour)
	s.committed()
	m.hasAges(s, p, 0)
	proxy.Away(true)
	for n, age := range []time.Duration{3 * time.Hour, 5 * time.Hour, time.Hour, -time.Hour} {
		s.old(email, 1+n, age)
	}
	m.hasAges(s, p, 3*time.Hour)
	for _, removed := range []struct {
		before int64
		want   time.Duration
	}{{2, 5 * time.Hour}, {3, time.Hour}, {4, 0}} { // the last one's time lies ahead
		s.remove(p, removed.before)
		m.hasAges(s, p, removed.want)
	}
	proxy.Away(false)
	s.committed()
	m.hasAges(s, p, 0)
	m.stop()
}

// A batch that nobody can read has an age, also for a member that has just come.
func TestOldest_OfAPartitionThatStands(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	first := s.start(&tracking.Store{Pool: s.pool}, impatient)
	p := s.opens(uuid.New(), 0, 1)
	s.committed()
	s.produceGzipAt(p, []byte("no gzip"), time.Now().Add(-2*time.Hour))
	first.hasAges(s, p, 2*time.Hour)
	first.stop()
	if n := len(ages(t, first)); n != 0 {
		t.Errorf("a member that has left shows %d ages", n)
	}
	second := s.start(&tracking.Store{Pool: s.pool}, impatient)
	s.joined(1)
	second.hasAges(s, p, 2*time.Hour)
	second.stop()
}

// Where the record's time is not to be had, the age grows from when it was seen.
func TestOldest_TimeUnknown(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	pool, proxy := s.proxied()
	proxy.Away(true)
	s.broker.Cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		s.broker.Cluster.KeepControl()
		return nil, errors.New("no"), r.(*kmsg.FetchRequest).MaxBytes == 1
	})
	m := s.start(&tracking.Store{Pool: pool}, impatient)
	p := fmt.Sprint(s.old(uuid.New(), 0, 2*time.Hour))
	s.until("an age", func() bool { return ages(t, m)[p] > 0 })
	before := ages(t, m)[p]
	s.until("it to grow", func() bool {
		m.MeasureLag(s.ctx)
		return ages(t, m)[p] > before
	})
	if after := ages(t, m)[p]; after > time.Hour {
		t.Errorf("the age went from %v to %v", before, after)
	}
	proxy.Away(false)
	m.stop()
}
