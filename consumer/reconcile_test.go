package consumer_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
)

// If an event is lost on its way to a writer, or counted twice, consumed differs from
// the sum of the outcomes. (What dashboards and alerts show then is tested in
// deploy/prometheus/tests/events.yml.)
func TestReconciliation_ShowsADefect(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		inject func(*member) bool
		want   int
	}{
		"none":          {func(*member) bool { return true }, 0},
		"lost":          {func(m *member) bool { return m.LoseOne() }, 1},
		"counted twice": {func(m *member) bool { return m.DoubleOne() }, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			store, inHand, release := held(&tracking.Store{Pool: s.pool})
			m := s.start(store)
			email := uuid.New()
			s.opens(email, 0, 1)
			<-inHand
			s.opens(email, 1, 3)
			s.until("the defect", func() bool { return test.inject(m) })
			if n := unreconciled(t, m); n != test.want {
				t.Errorf("%d unaccounted for while it is in flight, want %d", n, test.want)
			}
			close(release)
			s.opens(email, 4, 1)
			s.committed()
			m.stop()
			if n := unreconciled(t, m); n != test.want {
				t.Errorf("%d unaccounted for in the end, want %d", n, test.want)
			}
			if n := sum(t, "mailtally_events_in_flight", m); n != 0 {
				t.Errorf("%d in flight in the end", n)
			}
		})
	}
}
