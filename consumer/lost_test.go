package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/consumer"
	"github.com/mailtally/mailtally/tracking"
)

// lostLines gives the losses that a member logged, without the message.
func lostLines(m *member) []string { return lines(m, "records lost") }

// loggedLost is the number of records in these lines.
func loggedLost(t *testing.T, members ...*member) (records int) {
	t.Helper()
	for _, m := range members {
		for _, line := range lostLines(m) {
			_, after, _ := strings.Cut(line, " records=")
			n, err := strconv.Atoi(strings.Fields(after)[0])
			if err != nil {
				t.Fatal(err)
			}
			records += n
		}
	}
	return records
}

// lines gives a member's lines with that message, without the message.
func lines(m *member, message string) []string {
	var found []string
	for line := range strings.Lines(m.logs.String()) {
		if strings.Contains(line, message) {
			found = append(found, strings.TrimSpace(line[strings.Index(line, " topic="):]))
		}
	}
	return found
}

// impatient makes a member look soon whether its topic or the leaders have changed.
func impatient(o *consumer.Options) {
	o.Kafka = append(o.Kafka, kgo.MetadataMinAge(50*time.Millisecond))
}

// opens produces n opens of an email and returns their partition.
func (s *system) opens(email uuid.UUID, from, n int) int32 {
	s.t.Helper()
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = webhook(email, tracking.Opened, from+i)
	}
	s.produce(records...)
	return records[0].Partition
}

// remove has Kafka remove a partition's records before an offset.
func (s *system) remove(partition int32, before int64) {
	s.t.Helper()
	if err := s.broker.Cluster.DeleteRecords(topic, partition, before); err != nil {
		s.t.Fatal(err)
	}
}

// consumes has a member consume and commit everything, and stop.
func (s *system) consumes() *member {
	s.t.Helper()
	m := s.start(&tracking.Store{Pool: s.pool}, impatient)
	s.committed()
	m.stop()
	return m
}

// Retention removes records while the group was away: the loss is counted and logged
// once, and the next member finds none.
func TestLost_WhileTheGroupIsAway(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	email := uuid.New()
	p := s.opens(email, 0, 5)
	first := s.consumes()

	s.opens(email, 5, 7)
	retention := func(bytes string) {
		t.Helper()
		answers, err := s.admin.AlterTopicConfigs(s.ctx, []kadm.AlterConfig{{Name: "retention.bytes", Value: &bytes}}, topic)
		if err == nil {
			_, err = answers.On(topic, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	retention("1") // everything
	s.broker.Cluster.ApplyRetention()
	retention("-1")
	if start := s.broker.Cluster.PartitionInfo(topic, p).LogStartOffset; start != 12 {
		t.Fatalf("the partition begins at %d, want 12: the test proves nothing", start)
	}
	s.opens(email, 12, 3)

	second := s.consumes()
	third := s.start(&tracking.Store{Pool: s.pool}, impatient)
	s.opens(email, 15, 1)
	s.committed()
	third.stop()
	s.reconciled(first, second, third)
	for m, want := range map[*member]int{first: 0, second: 7, third: 0} {
		if n := sum(t, "mailtally_records_lost_total", m); n != want {
			t.Errorf("%d records lost, want %d", n, want)
		}
	}
	want := fmt.Sprintf("topic=%s partition=%d offset=5 records=7 group=%s", topic, p, group)
	if got := append(append(lostLines(first), lostLines(second)...), lostLines(third)...); len(got) != 1 || got[0] != want {
		t.Errorf("logged %q, want %q", got, want)
	}
}

// Retention overtakes a member that waits for its database, twice, and a batch that is
// retried in between: each record is lost once.
func TestLost_WhileAMemberWaits(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	pool, proxy := s.proxied()
	proxy.Away(true)
	email := uuid.New()
	p := s.opens(email, 0, 10)
	m := s.start(&tracking.Store{Pool: pool}, impatient)
	s.until("an attempt", func() bool { return sum(t, "mailtally_apply_retries_total", m) >= 1 })
	for _, before := range []int64{4, 6} {
		s.remove(p, before)
		s.until("the loss to be found", func() bool { return m.FoundLost() == before })
	}
	if n := sum(t, "mailtally_records_lost_total", m); n != 0 || len(lostLines(m)) != 0 {
		t.Errorf("%d counted and %q logged before the group has committed anything above them", n, lostLines(m))
	}
	proxy.Away(false)
	s.committed()
	m.stop()
	s.reconciled(m)
	if lost, applied := sum(t, "mailtally_records_lost_total", m), sum(t, "mailtally_events_applied_total", m); lost != 6 || applied != 4 {
		t.Errorf("%d lost and %d applied of 10, want 6 and 4", lost, applied)
	}
}

// unseen gives a function that does something while no fetch is in flight.
func (s *system) unseen() func(do func()) {
	var away atomic.Bool
	refused := make(chan struct{}, 1)
	s.broker.Cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.broker.Cluster.KeepControl()
		if !away.Load() {
			return nil, nil, false
		}
		select {
		case refused <- struct{}{}:
		default:
		}
		return nil, errors.New("away"), true
	})
	return func(do func()) {
		select {
		case <-refused: // from the last time
		default:
		}
		away.Store(true)
		<-refused
		do()
		away.Store(false)
	}
}

// Records are removed after a batch in flight, which then has to be fetched again from
// its start and is removed too: those in the middle are lost once, not twice.
func TestLost_BehindABatchThatIsFetchedAgain(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	real := &tracking.Store{Pool: s.pool}
	inHand, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	m := s.start(storeFunc(func(ctx context.Context, events []tracking.Event) (tracking.Result, error) {
		fail := false
		once.Do(func() {
			fail = true
			close(inHand)
			<-release
		})
		if fail {
			return tracking.Result{}, errors.New("a transient fault")
		}
		return real.Apply(ctx, events)
	}), impatient)
	email := uuid.New()
	p := s.opens(email, 0, 10)
	<-inHand

	unseen := s.unseen()
	unseen(func() {
		s.opens(email, 10, 10)
		s.remove(p, 15)
	})
	s.until("the loss to be found", func() bool { return m.FoundLost() == 5 })
	unseen(func() {
		close(release)
		s.until("the failure", func() bool { return sum(t, "mailtally_apply_retries_total", m) == 1 })
		s.remove(p, 17)
	})
	s.committed()
	m.stop()
	s.reconciled(m)
	if lost, applied := sum(t, "mailtally_records_lost_total", m), sum(t, "mailtally_events_applied_total", m); lost != 17 || applied != 3 || loggedLost(t, m) != 17 {
		t.Errorf("%d lost and %d applied of 20, want 17 and 3: %q", lost, applied, lostLines(m))
	}
}

// The group commits what is before a loss, but nothing after it: the loss must not be
// counted yet, since the member that takes over finds it too.
func TestLost_NotCountedBeforeItIsPassed(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	real := &tracking.Store{Pool: s.pool}
	inHand, release, fail := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	first := s.start(storeFunc(func(ctx context.Context, events []tracking.Event) (tracking.Result, error) {
		if calls.Add(1) > 1 {
			<-fail
			return tracking.Result{}, errors.New("a fault of this member")
		}
		close(inHand)
		<-release
		return real.Apply(ctx, events)
	}), impatient)
	email := uuid.New()
	p := s.opens(email, 0, 10)
	<-inHand
	s.unseen()(func() {
		s.opens(email, 10, 10)
		s.remove(p, 15)
	})
	s.until("the loss to be found", func() bool { return first.FoundLost() == 5 })
	close(release)
	s.until("the commit before it", func() bool { return s.uncommitted() == 10 })
	close(fail)
	s.until("the failure behind it", func() bool { return sum(t, "mailtally_apply_retries_total", first) > 0 })
	if n := sum(t, "mailtally_records_lost_total", first); n != 0 {
		t.Errorf("%d counted before the group has committed anything above them", n)
	}
	second := s.start(real, impatient)
	first.stop()
	s.committed()
	second.stop()
	s.reconciled(first, second)
	if n := sum(t, "mailtally_records_lost_total", first, second); n != 5 || loggedLost(t, first, second) != 5 {
		t.Errorf("%d counted and %d logged, want 5", n, loggedLost(t, first, second))
	}
}

// A member finds a loss and cannot commit an offset above it. The one that takes over
// finds it too, and counts it: over the group it is counted once.
func TestLost_CountedOnceOverARebalance(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	email := uuid.New()
	p := s.opens(email, 0, 2)
	before := s.consumes()
	s.opens(email, 2, 10)
	s.remove(p, 8)

	pool, proxy := s.proxied()
	proxy.Away(true)
	first := s.start(&tracking.Store{Pool: pool}, impatient)
	s.until("the loss to be found", func() bool { return first.FoundLost() == 6 })
	s.until("an attempt", func() bool { return sum(t, "mailtally_apply_retries_total", first) >= 1 })
	second := s.start(&tracking.Store{Pool: s.pool}, impatient)
	first.stop()
	s.committed()
	second.stop()
	s.reconciled(before, first, second)
	if n := sum(t, "mailtally_records_lost_total", first, second); n != 6 {
		t.Errorf("%d lost, want 6", n)
	}
	if len(lostLines(first)) != 0 || len(lostLines(second)) != 1 {
		t.Errorf("the members logged %q and %q", lostLines(first), lostLines(second))
	}
}

// Records removed before a group's first start are not its loss. But a group whose
// offsets have expired looks the same, so there is one warning.
func TestLost_NothingByAGroupThatIsNew(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	email := uuid.New()
	p := s.opens(email, 0, 10)
	s.remove(p, 4)
	m := s.start(&tracking.Store{Pool: s.pool}, impatient)
	s.committed()
	s.opens(email, 10, 1)
	s.committed()
	m.stop()
	begins := fmt.Sprintf("topic=%s partition=%d offset=4 group=%s", topic, p, group)
	if got := lines(m, "no committed offset"); len(got) != 1 || got[0] != begins {
		t.Errorf("logged %q, want %q", got, begins)
	}
	if lost, consumed := sum(t, "mailtally_records_lost_total", m), sum(t, "mailtally_events_consumed_total", m); lost != 0 || consumed != 7 {
		t.Errorf("%d lost and %d consumed, want 0 and 7", lost, consumed)
	}
}

// The group's offsets have expired, and retention has removed records that it had not
// consumed: that cannot be counted, so each partition warns. Without a removal there is
// no warning.
func TestLost_OffsetsExpired(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	email, other := uuid.New(), uuid.New()
	p, q := s.opens(email, 0, 5), s.opens(other, 0, 1)
	for q == p {
		other = uuid.New()
		q = s.opens(other, 0, 1)
	}
	first := s.consumes()
	if said := lines(first, "no committed offset"); len(said) != 0 {
		t.Errorf("a new group on a complete topic logged %q", said)
	}
	s.opens(email, 5, 7)
	s.remove(p, 9)
	if _, err := s.admin.DeleteGroup(s.ctx, group); err != nil {
		t.Fatal(err)
	}
	second := s.consumes()
	want := fmt.Sprintf("topic=%s partition=%d offset=9 group=%s", topic, p, group)
	if got := lines(second, "no committed offset"); len(got) != 1 || got[0] != want {
		t.Errorf("logged %q, want %q", got, want)
	}
	if n := sum(t, "mailtally_records_lost_total", second); n != 0 {
		t.Errorf("%d records counted as lost, which cannot be known", n)
	}
}

// Transaction markers have offsets and are not records.
func TestLost_NothingByTransactions(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	email := uuid.New()
	p := s.opens(email, 0, 1)
	m := s.start(&tracking.Store{Pool: s.pool}, impatient)
	s.committed()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Addr()), kgo.TransactionalID("somebody else"),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for n := range 3 {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := client.ProduceSync(s.ctx, webhook(email, tracking.Opened, n+1)).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := client.EndTransaction(s.ctx, kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	s.opens(email, 4, 1)
	s.until("all to be consumed", func() bool { return sum(t, "mailtally_events_consumed_total", m) == 5 })
	if end := s.broker.Cluster.PartitionInfo(topic, p).HighWatermark; end != 8 {
		t.Fatalf("the partition ends at %d, want 8: the test proves nothing", end)
	}
	s.committed()
	m.stop()
	if n := sum(t, "mailtally_records_lost_total", m); n != 0 || len(lostLines(m)) != 0 {
		t.Errorf("%d lost, %q", n, lostLines(m))
	}
}
