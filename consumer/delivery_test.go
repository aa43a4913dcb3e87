package consumer_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/consumer"
	"github.com/mailtally/mailtally/tracking"
)

// storeFunc wraps the real store to make things happen at the right moment.
type storeFunc func(context.Context, []tracking.Event) (tracking.Result, error)

func (f storeFunc) Apply(ctx context.Context, events []tracking.Event) (tracking.Result, error) {
	return f(ctx, events)
}

// held is a store that keeps its first batch in flight until release is closed.
func held(real consumer.Store) (store consumer.Store, inHand <-chan struct{}, release chan<- struct{}) {
	taken, let := make(chan struct{}), make(chan struct{})
	var once sync.Once
	return storeFunc(func(ctx context.Context, events []tracking.Event) (tracking.Result, error) {
		once.Do(func() {
			close(taken)
			select {
			case <-let:
			case <-ctx.Done():
			}
		})
		return real.Apply(ctx, events)
	}), taken, let
}

func TestConsumer_AppliesAndCommits(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var records []*kgo.Record
	for range 20 {
		email := uuid.New()
		for n, typ := range tracking.Types() {
			records = append(records, webhook(email, typ, n))
		}
	}
	s.produce(records...)
	s.produce(records[:20]...) // redelivered
	m := s.start(&tracking.Store{Pool: s.pool})
	s.committed()
	m.stop()
	s.reconciled(m)
	if applied, duplicate := sum(t, "mailtally_events_applied_total", m), sum(t, "mailtally_events_duplicate_total", m); applied != 200 || duplicate != 20 {
		t.Errorf("%d applied and %d duplicate, want 200 and 20", applied, duplicate)
	}
	if n := s.number("SELECT count(*) FROM mailtally.email WHERE num_nulls(scheduled_at, sent_at, delivered_at, delivery_delayed_at, opened_at, clicked_at, bounced_at, complained_at, failed_at, suppressed_at) = 0"); n != 20 {
		t.Errorf("%d emails have a time of every type, want 20", n)
	}
}

// A batch fails and then succeeds, with others behind it: nothing is skipped.
func TestConsumer_FailureThenSuccess(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	real := &tracking.Store{Pool: s.pool}
	var mu sync.Mutex
	calls, failures := 0, 0
	flaky := storeFunc(func(ctx context.Context, events []tracking.Event) (tracking.Result, error) {
		mu.Lock()
		calls++
		fail := calls%2 == 1 && failures < 3 // every other one, so that a later batch succeeds in between
		if fail {
			failures++
		}
		mu.Unlock()
		if fail {
			return tracking.Result{}, errors.New("a transient fault")
		}
		return real.Apply(ctx, events)
	})
	email := uuid.New()
	for n := range 30 {
		s.produce(webhook(email, tracking.Opened, n))
	}
	m := s.start(flaky, func(o *consumer.Options) { o.MaxBatch = 10 })
	s.committed()
	m.stop()
	s.reconciled(m)
	if n := s.number("SELECT open_count FROM mailtally.email WHERE id = $1", email); n != 30 {
		t.Errorf("open_count is %d, want 30", n)
	}
	if n := sum(t, "mailtally_apply_retries_total", m); n != failures || n == 0 {
		t.Errorf("%d retries counted of %d", n, failures)
	}
}

// A member dies after PostgreSQL has committed and before Kafka knows: the next one
// gets the records again, and they come out as duplicates.
func TestI1_CrashBetweenDatabaseCommitAndOffsetCommit(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	for range 10 {
		email := uuid.New()
		s.produce(webhook(email, tracking.Opened, 1), webhook(email, tracking.Clicked, 2))
	}
	// No offset commit gets through while the first member lives.
	fault := s.broker.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: group, Count: -1})
	first := s.start(&tracking.Store{Pool: s.pool})
	s.until("the first member to apply everything", func() bool { return sum(t, "mailtally_events_applied_total", first) == 20 })
	first.stop()
	if n := s.uncommitted(); n != 20 {
		t.Fatalf("%d records are uncommitted, want all 20: the test proves nothing", n)
	}
	fault.Remove()

	second := s.start(&tracking.Store{Pool: s.pool})
	s.committed()
	second.stop()
	s.reconciled(first, second)
	if n := sum(t, "mailtally_events_duplicate_total", second); n != 20 {
		t.Errorf("%d came out as duplicates, want 20", n)
	}
}

// When an offset commit reaches Kafka, everything up to it is in PostgreSQL, and its
// dead letters are in their topic.
func TestI6_CommitOrder(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var mu sync.Mutex
	var violations []string
	commits := 0
	s.broker.Cluster.ControlKey(int16(kmsg.OffsetCommit), func(request kmsg.Request) (kmsg.Response, error, bool) {
		s.broker.Cluster.KeepControl()
		commit := request.(*kmsg.OffsetCommitRequest)
		var upTo int64
		for _, topics := range commit.Topics {
			for _, p := range topics.Partitions {
				upTo += p.Offset
			}
		}
		mu.Lock()
		defer mu.Unlock()
		commits++
		stored := s.number("SELECT count(*) FROM mailtally.email_event")
		letters := int(s.broker.Cluster.PartitionInfo(deadLetter, 0).HighWatermark)
		if stored+letters < int(upTo) {
			violations = append(violations, "committed before it was stored")
		}
		return nil, nil, false
	})
	m := s.start(&tracking.Store{Pool: s.pool}, func(o *consumer.Options) { o.MaxBatch = 7 })
	email := uuid.New() // one partition, so that a committed offset is a count
	for n := range 100 {
		r := webhook(email, tracking.Opened, n)
		if n%10 == 3 {
			r.Value = []byte("no JSON")
		}
		s.produce(r)
	}
	s.committed()
	m.stop()
	mu.Lock()
	defer mu.Unlock()
	if len(violations) > 0 || commits == 0 {
		t.Errorf("%d commits, %d violations: %v", commits, len(violations), violations)
	}
	s.reconciled(m)
}

// While dead letters are not acknowledged, their offsets are not committed, and nothing
// is lost once they are.
func TestI4_DeadLettersBeforeCommit(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	fault := s.broker.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: deadLetter, Count: -1})
	bad := record("k", "msg_2", "no JSON")
	s.produce(webhook(uuid.New(), tracking.Opened, 1), bad)
	m := s.start(&tracking.Store{Pool: s.pool})
	s.until("a dead letter to be refused", func() bool { return strings.Contains(m.logs.String(), "dead letter") })
	// The other record may be committed, if its partition was finished first.
	if at := s.broker.Cluster.GroupInfo(group).Commits[topic][bad.Partition]; at.Offset > bad.Offset {
		t.Errorf("committed up to offset %d without the dead letter of offset %d", at.Offset, bad.Offset)
	}
	fault.Remove()
	s.committed()
	m.stop()
	s.reconciled(m)
	if letters := s.deadLetters(); len(letters) != 1 || header(letters[0], "reason") != "not_json" {
		t.Errorf("dead letters: %v", letters)
	}
}

// A second member joins while the first has a batch in flight: the group waits for it,
// and nothing is applied twice.
func TestI6_RebalanceWaitsForTheBatchInHand(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	real := &tracking.Store{Pool: s.pool}
	store, inHand, release := held(real)
	first := s.start(store, func(o *consumer.Options) { o.Kafka = append(o.Kafka, kgo.HeartbeatInterval(50*time.Millisecond)) })
	firstID := s.joined(1).Members[0].MemberID
	for n := range 200 {
		s.produce(webhook(uuid.New(), tracking.Opened, n))
	}
	<-inHand

	joins := s.broker.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Group: group, Count: -1, Observe: true})
	second := s.start(real)
	s.until("the second member to ask to join", func() bool { return joins.Hits() > 0 })
	rejoins := s.broker.Cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.JoinGroup}, Group: group, Count: -1, Observe: true,
		When: func(r kmsg.Request) bool { return r.(*kmsg.JoinGroupRequest).MemberID == firstID },
	})
	heartbeats := s.broker.Cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Heartbeat}, Group: group, Count: -1, Observe: true,
		When: func(r kmsg.Request) bool { return r.(*kmsg.HeartbeatRequest).MemberID == firstID },
	})
	// The first answer tells the member that the group wants to rebalance.
	s.until("twenty heartbeats of the first member", func() bool { return heartbeats.Hits() >= 20 })
	if rejoins.Hits() > 0 || sum(t, "mailtally_events_consumed_total", second) > 0 {
		t.Error("the group was rebalanced while a batch was in flight")
	}
	close(release)
	s.joined(2)
	for n := range 200 {
		s.produce(webhook(uuid.New(), tracking.Clicked, n))
	}
	s.committed()
	first.stop()
	second.stop()
	s.reconciled(first, second)
	if n := sum(t, "mailtally_events_duplicate_total", first, second); n != 0 {
		t.Errorf("%d events were consumed twice, though every batch was committed before its partition moved", n)
	}
	if n := sum(t, "mailtally_events_consumed_total", second); n == 0 {
		t.Error("the second member took nothing over")
	}
}

// Stopping finishes the batch in flight, commits it and leaves the group.
func TestConsumer_StopFinishesTheBatchInHand(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	store, inHand, release := held(&tracking.Store{Pool: s.pool})
	m := s.start(store)
	email := uuid.New()
	s.joined(1)
	s.produce(webhook(email, tracking.Opened, 1))
	<-inHand
	stopped := make(chan struct{})
	go func() {
		m.stop()
		close(stopped)
	}()
	select {
	case <-stopped:
		t.Error("stopped while a batch was in flight")
	default:
	}
	close(release)
	<-stopped
	s.joined(0)
	if n := s.uncommitted(); n != 0 {
		t.Errorf("%d records uncommitted", n)
	}
	s.reconciled(m)
}
