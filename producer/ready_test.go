package producer

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestReady(t *testing.T) {
	for _, test := range []struct {
		name   string
		topics []string
		want   string // in the error; none if empty
	}{
		{"no topic", nil, `"email-events"`},
		{"no dead-letter topic", []string{topic}, `"email-events.dead-letter"`},
		{"ready", []string{topic, deadLetterTopic}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			broker := newBroker(t, t.TempDir())
			if test.topics != nil {
				createTopics(t, broker.Addr(), test.topics...)
			}
			g := newGateway(t, gatewayOptions{seed: broker.Addr()})
			g.wantReady(deadline, test.want)
			broker.Close() // now, rather than when a cache has expired
			g.wantReady(100*time.Millisecond, "broker")
		})
	}
}

// A producer that Kafka does not let produce is not ready, even if Kafka answers and
// the topics exist.
func TestReadyNeedsAProducerID(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	g.broker.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ClusterAuthorizationFailed, TopLevel: true})
	g.wantReady(deadline, kerr.ClusterAuthorizationFailed.Message)
	g.wantReady(deadline, kerr.ClusterAuthorizationFailed.Message) // until it is restarted
}

// wantReady fails the test unless Ready's error contains text, or is nil if text is
// empty.
func (g *gateway) wantReady(timeout time.Duration, text string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), timeout)
	defer cancel()
	err := g.producer.Ready(ctx)
	if (err == nil) != (text == "") || err != nil && !strings.Contains(err.Error(), text) {
		g.t.Errorf("ready: %v, want %q", err, text)
	}
}
