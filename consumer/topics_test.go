package consumer_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/mailtally/mailtally/tracking"
)

// A member warns of each topic that is compacted, once, and of no other.
func TestConsumer_WarnsOfCompaction(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	compacted := func(m *member) []string { return lines(m, "topic is compacted") }
	first := s.start(&tracking.Store{Pool: s.pool})
	s.until("a lag", func() bool { return len(lags(t, first)) == partitions }) // is measured after the check
	if got := compacted(first); len(got) != 0 {
		t.Errorf("warned of topics that are not compacted: %q", got)
	}
	first.stop()
	for name, policy := range map[string]string{topic: "compact", deadLetter: "compact,delete"} {
		if _, err := s.admin.AlterTopicConfigs(s.ctx, []kadm.AlterConfig{{Name: "cleanup.policy", Value: &policy}}, name); err != nil {
			t.Fatal(err)
		}
	}
	second := s.start(&tracking.Store{Pool: s.pool})
	s.until("a lag", func() bool { return len(lags(t, second)) == partitions })
	second.MeasureLag(s.ctx)
	if got := strings.Join(compacted(second), "\n"); strings.Count(got, "topic="+topic) != 2 || !strings.Contains(got, "topic="+deadLetter) || strings.Count(got, "\n") != 1 {
		t.Errorf("warned %q, want one line for each topic", got)
	}
}
