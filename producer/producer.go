package producer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking/provider"
)

// Options of a [Producer]. Required but for PublishTimeout.
type Options struct {
	// Kafka says how to reach the brokers: seeds, TLS, SASL.
	Kafka                  []kgo.Opt
	Topic, DeadLetterTopic string
	// Endpoints are those of the providers that are served, each of another one; one or
	// more.
	Endpoints  []provider.Endpoint
	Registerer prometheus.Registerer
	// Logger gets a line for each webhook that is refused or dropped. Anybody may
	// send those, so its handler should limit them.
	Logger *slog.Logger
	// PublishTimeout bounds the wait for Kafka's acknowledgement; 8 s if zero.
	// Providers wait 15 s for an answer (Svix's default).
	PublishTimeout time.Duration
}

const (
	defaultPublishTimeout = 8 * time.Second

	// maxHeld bounds the bodies that are being read or wait for their answer, in
	// bytes, and again those that kgo holds on to (which may outlast the answer,
	// since what is under way cannot be called back). Beyond it webhooks are
	// answered 503 at once.
	maxHeld = 32 << 20
)

// Producer writes webhooks to Kafka.
type Producer struct {
	client          *kgo.Client
	topic           string
	deadLetterTopic string
	endpoints       []provider.Endpoint
	publishTimeout  time.Duration
	metrics         *metrics
	log             *slog.Logger
	held            held
	now             func() time.Time
}

// New makes a Producer. It connects when it first has to.
func New(o Options) (*Producer, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("producer: no provider is configured")
	}
	p := &Producer{
		topic:           o.Topic,
		deadLetterTopic: o.DeadLetterTopic,
		endpoints:       o.Endpoints,
		publishTimeout:  o.PublishTimeout,
		metrics:         newMetrics(o.Registerer, o.Endpoints),
		log:             o.Logger,
		held:            held{limit: maxHeld},
		now:             time.Now,
	}
	if p.publishTimeout == 0 {
		p.publishTimeout = defaultPublishTimeout
	}
	var err error
	// Clipped: the options are the caller's, who may give them to others too.
	p.client, err = kgo.NewClient(append(slices.Clip(o.Kafka),
		// acks=all and idempotence are kgo's defaults; they are said here because
		// everything rests on them.
		kgo.RequiredAcks(kgo.AllISRAcks()),
		// A webhook waits so long for others to go with it, and so its answer is that
		// much later at the most. Without it the five requests that may be under way
		// take the webhooks of a busy moment in handfuls, a few to a partition, which
		// costs the broker twice as much and a third more here.
		kgo.ProducerLinger(time.Millisecond),
		kgo.RecordDeliveryTimeout(max(p.publishTimeout, time.Second)), // kgo takes no less
		kgo.MaxBufferedBytes(maxHeld),
		kgo.MaxBufferedRecords(maxHeld/heldPerRecord), // a limit that is never met first
	)...)
	if err != nil {
		return nil, fmt.Errorf("producer: %w", err)
	}
	return p, nil
}

// errNotAcknowledged says that Kafka has not acknowledged a record in time. It
// may still do so later: the provider sends the webhook again, and the consumer
// counts it once.
var errNotAcknowledged = errors.New("not acknowledged in time")

// publish returns nil when all in-sync replicas have all of records. It does not
// end with the request: a client that hangs up has its webhook written all the
// same, and the metrics say what became of it.
func (p *Producer) publish(records []*kgo.Record) error {
	start := time.Now()
	acknowledged := make(chan kgo.ProduceResult, len(records)) // there may be nobody left to receive
	for _, r := range records {
		p.client.TryProduce(context.Background(), r, func(r *kgo.Record, err error) {
			acknowledged <- kgo.ProduceResult{Record: r, Err: err}
		})
	}
	timeout := time.NewTimer(p.publishTimeout)
	defer timeout.Stop()
	for range records {
		select {
		case a := <-acknowledged:
			if errors.Is(a.Err, kerr.UnknownTopicID) {
				// The topic was deleted and made anew: kgo keeps to the old one until it
				// is told to forget it. The webhook comes again.
				p.client.PurgeTopicsFromProducing(a.Record.Topic)
			}
			if a.Err != nil {
				return fmt.Errorf("write to topic %q: %w", a.Record.Topic, a.Err)
			}
		case <-timeout.C:
			return fmt.Errorf("write to topic %q: %w", records[0].Topic, errNotAcknowledged)
		}
	}
	p.metrics.publish.Observe(time.Since(start).Seconds())
	return nil
}

// Ready is nil while Kafka answers, lets us produce and has the topics (by
// metadata that may be some seconds old).
func (p *Producer) Ready(ctx context.Context) error {
	if err := p.client.Ping(ctx); err != nil {
		return fmt.Errorf("reach a broker: %w", err)
	}
	// kgo asks again after an error that may pass, and never after another: a
	// producer that was not allowed one has to be started anew once it is.
	if _, _, err := p.client.ProducerID(ctx); err != nil {
		return fmt.Errorf("get a producer id: %w", err)
	}
	topics, err := kadm.NewClient(p.client).ListTopics(ctx, p.topic, p.deadLetterTopic)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	for _, topic := range []string{p.topic, p.deadLetterTopic} {
		if err := topics[topic].Err; err != nil {
			return fmt.Errorf("topic %q: %w (mailtally migrate creates it)", topic, err)
		}
	}
	return nil
}

// Close closes the connections to Kafka. Call it when the HTTP server has
// answered its last request: by then nothing is buffered that anybody waits for.
func (p *Producer) Close() { p.client.Close() }
