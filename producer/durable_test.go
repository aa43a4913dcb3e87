package producer

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/internal/localkafka"
	"github.com/mailtally/mailtally/tracking/provider/resend"
)

// heldProduce holds a broker's answers to produce requests.
type heldProduce struct {
	arrived  chan produced // receives each request
	released atomic.Bool
	release  func()
}

// produced is the part of a produce request that tests check.
type produced struct {
	acks       int16
	idempotent bool
}

// holdProduce makes the broker leave produce requests unprocessed until release, or the
// test's end.
func holdProduce(t testing.TB, broker *localkafka.Broker) *heldProduce {
	h := &heldProduce{arrived: make(chan produced, 1000)}
	goOn := make(chan struct{})
	h.release = sync.OnceFunc(func() {
		h.released.Store(true)
		close(goOn)
	})
	t.Cleanup(h.release)
	broker.Cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		if h.released.Load() {
			return nil, nil, false
		}
		h.arrived <- readProduce(request.(*kmsg.ProduceRequest))
		broker.Cluster.SleepControl(func() { <-goOn })
		return nil, nil, false // the broker goes on as usual
	})
	return h
}

func readProduce(request *kmsg.ProduceRequest) produced {
	p := produced{acks: request.Acks, idempotent: true}
	for _, topic := range request.Topics {
		for _, partition := range topic.Partitions {
			var batch kmsg.RecordBatch
			if err := batch.ReadFrom(partition.Records); err != nil || batch.ProducerID < 0 || batch.FirstSequence < 0 {
				p.idempotent = false
			}
		}
	}
	return p
}

// I5: a 2xx is answered only after Kafka has acknowledged the record, with acks=all and
// idempotence. The same holds for a dead letter.
func TestI5_2xxMeansDurable(t *testing.T) {
	for name, hook := range map[string]sentWebhook{
		"event":       {},
		"dead letter": {body: []byte("alice.private@example.com")},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, gatewayOptions{publishTimeout: deadline})
			kafka := holdProduce(t, g.broker)
			answered := make(chan bool)
			go func() {
				g.want(http.StatusOK, hook)
				answered <- kafka.released.Load()
			}()
			request := wait(t, "a produce request", kafka.arrived, 1)
			if request.acks != -1 || !request.idempotent {
				t.Errorf("acks %d, idempotent %t", request.acks, request.idempotent)
			}
			// While a hundred others are answered, this one would be too, if it were
			// not waiting.
			for range 100 {
				g.want(http.StatusOK, sentWebhook{body: contactCreated})
			}
			g.wantCounts(map[result]int{ignored: 100})
			kafka.release()
			if acknowledged := wait(t, "the answer", answered, 1); !acknowledged {
				t.Error("answered before Kafka had acknowledged")
			}
			if name == "event" {
				g.wantRecords(1, 0)
			} else {
				g.wantRecords(0, 1)
			}
		})
	}
}

// I5: if Kafka answers with an error, or has no such topic, the gateway answers 503 in
// time; and 200 as soon as Kafka accepts it.
func TestI5_2xxMeansDurable_ErrorsAre503(t *testing.T) {
	for _, kafkaError := range []*kerr.Error{
		kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.UnknownTopicOrPartition, kerr.NotLeaderForPartition,
		kerr.RequestTimedOut, kerr.KafkaStorageError, // transient: retried until the timeout
		kerr.TopicAuthorizationFailed, kerr.InvalidRecord, kerr.UnknownServerError,
	} {
		t.Run(kafkaError.Message, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, gatewayOptions{publishTimeout: 100 * time.Millisecond})
			fault := g.broker.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kafkaError, Count: -1})
			g.want(http.StatusServiceUnavailable, sentWebhook{})
			g.want(http.StatusServiceUnavailable, sentWebhook{body: []byte("{}")})
			g.wantCounts(map[result]int{unavailable: 2})
			if n := g.published(); n != 0 {
				t.Errorf("%d publications observed", n)
			}
			fault.Remove()
			g.wantRecovery()
		})
	}
}

// The producer id, which idempotence needs, can take a while to arrive.
func TestI5_2xxMeansDurable_NoProducerID(t *testing.T) {
	t.Parallel()
	g := newGateway(t, gatewayOptions{publishTimeout: 100 * time.Millisecond})
	fault := g.broker.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.CoordinatorLoadInProgress, Count: -1, TopLevel: true})
	g.want(http.StatusServiceUnavailable, sentWebhook{})
	if fault.Hits() == 0 {
		t.Error("it asked for no producer id")
	}
	fault.Remove()
	g.wantRecovery()
}

// A missing topic is created later, by mailtally migrate.
func TestI5_2xxMeansDurable_NoTopic(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, t.TempDir())
	g := newGateway(t, gatewayOptions{seed: broker.Addr(), publishTimeout: 100 * time.Millisecond})
	g.broker = broker
	g.want(http.StatusServiceUnavailable, sentWebhook{})
	g.want(http.StatusServiceUnavailable, sentWebhook{body: []byte("{}")})
	createTopics(t, broker.Addr())
	g.wantRecovery()
}

// wantRecovery sends a webhook repeatedly, as the provider does, until it is accepted:
// without a restart.
func (g *gateway) wantRecovery() {
	g.t.Helper()
	before := g.counts(resend.Name)
	for end := time.Now().Add(deadline); ; {
		a := g.post(sentWebhook{})
		if a.status == http.StatusOK {
			break
		}
		if a.status != http.StatusServiceUnavailable || time.Now().After(end) {
			g.t.Fatalf("answered %d although Kafka is back", a.status)
		}
	}
	if n := g.counts(resend.Name)[accepted] - before[accepted]; n != 1 {
		g.t.Errorf("%d accepted", n)
	}
	if len(g.records(topic)) == 0 {
		g.t.Error("accepted, but no record")
	}
}
