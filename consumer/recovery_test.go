package consumer_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/consumer"
	"github.com/mailtally/mailtally/tracking"
)

// Kafka drops every connection, repeatedly: the member continues as soon as it can.
func TestConsumer_KafkaAway(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	m := s.start(&tracking.Store{Pool: s.pool}, func(o *consumer.Options) { o.MaxBatch = 5 })
	s.joined(1)
	email := uuid.New()
	for n := range 60 {
		if n%20 == 10 {
			s.cutKafka()
		}
		s.produce(webhook(email, tracking.Opened, n))
	}
	s.committed()
	m.stop()
	s.reconciled(m)
	if n := s.number("SELECT open_count FROM mailtally.email WHERE id = $1", email); n != 60 {
		t.Errorf("open_count is %d, want 60", n)
	}
}

// An offset commit that Kafka did not accept is repeated, without a new record to
// trigger it.
func TestConsumer_RepeatsAFailedCommit(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	fault := s.broker.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: group, Count: 2, Err: kerr.RebalanceInProgress})
	m := s.start(&tracking.Store{Pool: s.pool})
	s.produce(webhook(uuid.New(), tracking.Opened, 1))
	s.until("a commit to fail", func() bool { return fault.Hits() > 0 })
	s.committed() // though no other record comes
	m.stop()
	s.reconciled(m)
	if n := sum(t, "mailtally_events_consumed_total", m); n != 1 {
		t.Errorf("%d events consumed, want 1", n)
	}
}

// The lag is the records after the committed offset, also for a group that has never
// committed, and after retention has removed what was not consumed.
func TestConsumer_Lag(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	email := uuid.New() // one partition's
	records := make([]*kgo.Record, 10)
	for n := range records {
		records[n] = webhook(email, tracking.Opened, n)
	}
	s.produce(records...)
	pool, proxy := s.proxied()
	proxy.Away(true) // so that nothing is ever committed
	m := s.start(&tracking.Store{Pool: pool})
	s.until("a lag of 10", func() bool { return sum(t, "mailtally_consumer_lag", m) == 10 })

	if err := s.broker.Cluster.DeleteRecords(topic, records[0].Partition, 4); err != nil {
		t.Fatal(err)
	}
	m.hasLag(s, 6)
	proxy.Away(false)
	s.committed()
	m.hasLag(s, 0)
	m.stop()
}

// Topics that are deleted and recreated have new ids: the member finds them.
func TestConsumer_TopicsMadeAnew(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	m := s.start(&tracking.Store{Pool: s.pool})
	email := uuid.New()
	s.produce(webhook(email, tracking.Opened, 1), record("k", "msg_2", "no JSON"))
	s.committed()

	for name, n := range map[string]int32{topic: partitions, deadLetter: 1} {
		if _, err := s.admin.DeleteTopic(s.ctx, name); err != nil {
			t.Fatal(err)
		}
		if _, err := s.admin.CreateTopic(s.ctx, n, 1, nil, name); err != nil {
			t.Fatal(err)
		}
	}
	s.client.PurgeTopicsFromProducing(topic)
	s.produce(webhook(email, tracking.Opened, 3), record("k", "msg_4", "no JSON"))
	s.until("the new records to be counted", func() bool { return sum(t, "mailtally_events_consumed_total", m) == 4 })
	s.committed()
	m.stop()
	s.reconciled(m)
	if n := len(s.deadLetters()); n != 1 {
		t.Errorf("%d dead letters in the new topic, want 1", n)
	}
	if n := sum(t, "mailtally_records_lost_total", m); n != 0 {
		t.Errorf("%d records counted as lost, but everything was consumed", n)
	}
}

// The committed offset is beyond the topic's end, and of a later epoch, as after a
// topic was recreated from a backup: the group starts again, and commits its true
// position.
func TestConsumer_CommitsBeforeAnOldOffset(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	email := uuid.New()
	p := s.opens(email, 0, 5)
	var offsets kadm.Offsets
	offsets.AddOffset(topic, p, 100, 7)
	if err := s.admin.CommitAllOffsets(s.ctx, group, offsets); err != nil {
		t.Fatal(err)
	}
	m := s.start(&tracking.Store{Pool: s.pool}, impatient)
	s.until("the group to commit its true position", func() bool { return s.broker.Cluster.GroupInfo(group).Commits[topic][p].Offset == 5 })
	m.stop()
	s.reconciled(m)
}

// For a record that is too large for the dead-letter topic, the dead letter says where
// it is.
func TestI4_DeadLetterTooLarge(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	fault := s.broker.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: deadLetter, Err: kerr.MessageTooLarge})
	s.produce(record("k", "msg_1", "no JSON"))
	m := s.start(&tracking.Store{Pool: s.pool})
	s.committed()
	m.stop()
	if fault.Hits() != 1 {
		t.Fatalf("Kafka refused %d records, want 1", fault.Hits())
	}
	letters := s.deadLetters()
	if len(letters) != 1 || letters[0].Value != nil || header(letters[0], "reason") != "not_json" || header(letters[0], "value-omitted") == "" || header(letters[0], "source-offset") != "0" {
		t.Errorf("dead letters: %v", letters)
	}
	s.reconciled(m)
}

// A member stops in time whatever does not answer: PostgreSQL, or Kafka in the middle
// of a dead letter.
func TestConsumer_StopsInTimeWhenNothingAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*system) (*member, <-chan struct{}){
		"PostgreSQL": func(s *system) (*member, <-chan struct{}) {
			pool, proxy := s.proxied()
			mute, end := make(chan struct{}), make(chan struct{})
			s.t.Cleanup(func() { close(end) })
			var once sync.Once
			proxy.OnRequest(func([]byte) bool {
				once.Do(func() { close(mute) })
				<-end
				return false
			})
			s.produce(webhook(uuid.New(), tracking.Opened, 1))
			return s.start(&tracking.Store{Pool: pool}), mute
		},
		"Kafka, asked for anything": func(s *system) (*member, <-chan struct{}) {
			s.produce(webhook(uuid.New(), tracking.Opened, 1))
			mute := make(chan struct{})
			var once sync.Once
			m := s.start(storeFunc(func(context.Context, []tracking.Event) (tracking.Result, error) {
				once.Do(func() {
					s.broker.Cluster.Control(func(request kmsg.Request) (kmsg.Response, error, bool) {
						s.broker.Cluster.KeepControl()
						switch request.(type) {
						case *kmsg.HeartbeatRequest, *kmsg.LeaveGroupRequest, *kmsg.OffsetCommitRequest:
							return nil, nil, true // never answered
						}
						return nil, nil, false
					})
					close(mute)
				})
				return tracking.Result{}, errors.New("a transient fault")
			}))
			return m, mute
		},
		"Kafka": func(s *system) (*member, <-chan struct{}) {
			s.produce(record("k", "msg_1", "no JSON"))
			cut := make(chan struct{})
			var once sync.Once
			s.broker.Cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				s.broker.Cluster.KeepControl()
				once.Do(func() { close(cut) })
				return nil, errors.New("cut"), true
			})
			return s.start(&tracking.Store{Pool: s.pool}), cut
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			m, stuck := test(s)
			<-stuck
			stopped := make(chan struct{})
			go func() {
				m.stop()
				close(stopped)
			}()
			select {
			case <-stopped:
			case <-time.After(20 * time.Second): // as the README says
				t.Fatal("the member does not stop")
			}
			if n := s.uncommitted(); n != 1 {
				t.Errorf("%d records uncommitted, want the one", n)
			}
		})
	}
}

// An event's time is judged by when its webhook was received, which may be long before
// the record was written, for example by a replay.
func TestConsumer_ReceivedAt(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	email := uuid.New()
	ahead := webhook(email, tracking.Opened, 1) // in March; received in January
	for i := range ahead.Headers {
		if ahead.Headers[i].Key == "received-at" {
			ahead.Headers[i].Value = []byte("2026-01-01T12:00:00Z")
		}
	}
	s.produce(ahead, webhook(email, tracking.Opened, 2))
	m := s.start(&tracking.Store{Pool: s.pool})
	s.committed()
	m.stop()
	s.reconciled(m)
	if letters := s.deadLetters(); len(letters) != 1 || header(letters[0], "reason") != "time_out_of_range" {
		t.Errorf("dead letters: %v", letters)
	}
}
