package consumer_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/tracking"
)

// said fails unless the member logged these messages, and not the others.
func (m *member) said(t *testing.T, these []string, not ...string) {
	t.Helper()
	for _, message := range these {
		if !strings.Contains(m.logs.String(), message) {
			t.Errorf("it did not log %q", message)
		}
	}
	for _, message := range not {
		if strings.Contains(m.logs.String(), message) {
			t.Errorf("it logged %q, which is false", message)
		}
	}
	if t.Failed() {
		t.Log(m.logs)
	}
}

// A member whose database hangs gives up in time, and says so.
func TestStop_SaysThatItGaveUp(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	begun := make(chan struct{}, 1)
	m := s.start(storeFunc(func(ctx context.Context, _ []tracking.Event) (tracking.Result, error) {
		begun <- struct{}{}
		<-ctx.Done()
		return tracking.Result{}, ctx.Err()
	}))
	s.produce(webhook(uuid.New(), tracking.Opened, 0))
	<-begun
	m.stop()
	m.said(t, []string{"gave up on the work in flight", "group left"}, "pausing", "drained", "offsets committed", "database lost")
}

// The member's partitions went to others before its applied events were committed: it
// does not claim to have committed them.
func TestStop_DoesNotSayCommittedWhatIsNot(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var away, out atomic.Bool
	refuse := func(key kmsg.Key, when *atomic.Bool, answer func(kmsg.Request) (kmsg.Response, error)) {
		s.broker.Cluster.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
			s.broker.Cluster.KeepControl()
			if !when.Load() {
				return nil, nil, false
			}
			response, err := answer(req)
			return response, err, true
		})
	}
	refuse(kmsg.OffsetCommit, &away, func(kmsg.Request) (kmsg.Response, error) { return nil, errors.New("away") })
	refuse(kmsg.JoinGroup, &out, func(kmsg.Request) (kmsg.Response, error) { return nil, errors.New("away") })
	refuse(kmsg.Heartbeat, &out, func(req kmsg.Request) (kmsg.Response, error) {
		response := req.ResponseKind().(*kmsg.HeartbeatResponse)
		response.ErrorCode = kerr.UnknownMemberID.Code
		return response, nil
	})
	m := s.start(&tracking.Store{Pool: s.pool})
	s.produce(webhook(uuid.New(), tracking.Opened, 0))
	s.committed()
	away.Store(true)
	s.produce(webhook(uuid.New(), tracking.Opened, 1))
	s.until("the second event", func() bool { return sum(t, "mailtally_events_applied_total", m) == 2 })
	out.Store(true)
	s.until("the member to be out of its group", func() bool { return strings.Contains(m.logs.String(), "partitions lost") })
	m.stop()
	if n := s.uncommitted(); n != 1 {
		t.Fatalf("%d records are uncommitted, want 1: the test proves nothing", n)
	}
	m.said(t, []string{"drained"}, "offsets committed")
}

// A member that never joined its group, and had nothing to do, claims neither to have
// left nor to have committed.
func TestStop_BeforeItHasJoined(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	asked := make(chan struct{}, 1)
	s.broker.Cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.broker.Cluster.KeepControl()
		select {
		case asked <- struct{}{}:
		default:
		}
		return nil, errors.New("away"), true
	})
	m := s.start(&tracking.Store{Pool: s.pool})
	<-asked
	m.stop()
	m.said(t, []string{"drained"}, "offsets committed", "group left")
}
