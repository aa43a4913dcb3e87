package consumer_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// transactional is somebody else's client, which writes in transactions.
func (s *system) transactional() *kgo.Client {
	s.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Addr()), kgo.TransactionalID("somebody else"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	return client
}

// begin writes an open into each partition, in a transaction that is not ended.
func (s *system) begin(client *kgo.Client, from int) {
	s.t.Helper()
	if err := client.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	for p := range int32(partitions) {
		r := webhook(uuid.New(), tracking.Opened, from+int(p))
		r.Partition = p
		if err := client.ProduceSync(s.ctx, r).FirstErr(); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *system) end(client *kgo.Client, how kgo.TransactionEndTry) {
	s.t.Helper()
	if err := client.EndTransaction(s.ctx, how); err != nil {
		s.t.Fatal(err)
	}
}

// What a transaction has committed is counted, and nothing else: nothing of one that is
// aborted, and no control record. Nothing lags once all of it is consumed, by whichever
// member, and none of it counts as lost.
func TestTransactions_CommittedAndAborted(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	client := s.transactional()
	m := s.start(&tracking.Store{Pool: s.pool}, impatient)
	counted := 0
	for n, how := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		s.begin(client, n*partitions)
		s.end(client, how)
		if how {
			counted += partitions
		}
		s.committed()
		m.hasLag(s, 0)
		if got := sum(t, "mailtally_events_consumed_total", m); got != counted {
			t.Errorf("%d events consumed after %d transactions, want %d", got, n+1, counted)
		}
	}
	m.stop()
	s.begin(client, 100)
	s.end(client, kgo.TryAbort)
	second := s.start(&tracking.Store{Pool: s.pool}, impatient)
	s.committed()
	second.hasLag(s, 0)
	second.stop()
	s.reconciled(m, second)
	if n := sum(t, "mailtally_events_applied_total", m, second); n != counted {
		t.Errorf("%d events applied, want %d", n, counted)
	}
	for _, name := range []string{"duplicate", "dropped", "refetched"} {
		if n := sum(t, "mailtally_events_"+name+"_total", m, second); n != 0 {
			t.Errorf("%d events %s", n, name)
		}
	}
	if n := sum(t, "mailtally_records_lost_total", m, second); n != 0 {
		t.Errorf("%d records lost", n)
	}
}

// A transaction that nobody ends holds up what is behind it: that is lag, with an age.
func TestTransactions_Hanging(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	client := s.transactional()
	m := s.start(&tracking.Store{Pool: s.pool}, impatient)
	s.opens(uuid.New(), 0, 1)
	s.committed()
	s.begin(client, 1)
	behind := s.opens(uuid.New(), 10, 3)
	m.hasLag(s, partitions+3)
	m.MeasureLag(s.ctx)
	for p, age := range ages(t, m) {
		if age <= 0 {
			t.Errorf("partition %s has an age of %v", p, age)
		}
	}
	if n := sum(t, "mailtally_events_consumed_total", m); n != 1 {
		t.Errorf("%d events consumed of partition %d, want 1", n, behind)
	}
	s.end(client, kgo.TryAbort)
	s.committed()
	m.hasLag(s, 0)
	m.stop()
	s.reconciled(m)
	if n := sum(t, "mailtally_events_applied_total", m); n != 4 {
		t.Errorf("%d events applied, want 4", n)
	}
}
