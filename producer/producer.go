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

	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider"
)

// Options configure a [Producer]. All but PublishTimeout are required.
type Options struct {
	// Kafka says how to reach the brokers: seeds, TLS, SASL.
	Kafka []kgo.Opt
	// Alone says the same for a second client, which seldom writes: see publishAlone. A
	// hook that serves one client only, as metrics do, is in one of them.
	Alone                  []kgo.Opt
	Topic, DeadLetterTopic string
	// Endpoints are the providers' endpoints to serve: at least one, and at most one per
	// provider.
	Endpoints  []provider.Endpoint
	Registerer prometheus.Registerer
	// Logger gets a line for each webhook that is refused or dropped. Anyone can send
	// those, so its handler should rate-limit them.
	Logger *slog.Logger
	// PublishTimeout limits the wait for Kafka's acknowledgement; 8 s if zero. Providers
	// wait 15 s for an answer (Svix's default).
	PublishTimeout time.Duration
}

const (
	defaultPublishTimeout = 8 * time.Second

	// maxHeld limits the bytes of webhooks that wait for Kafka, and separately the bytes
	// that kgo buffers (which may outlast the answer, since a record in flight cannot be
	// recalled). Above it, webhooks are answered 503 at once.
	maxHeld = 32 << 20

	// maxArriving limits the bytes of bodies that are not proved yet: 5,400 usual ones at
	// the same moment. The largest body needs one and a half times its size, or it would
	// cut itself off.
	maxArriving = 32 << 20
)

// Producer writes webhooks to Kafka.
type Producer struct {
	client          *kgo.Client
	alone           *kgo.Client   // for records that are refused in a batch with others
	turn            chan struct{} // taken by whoever uses it
	topic           string
	deadLetterTopic string
	endpoints       []provider.Endpoint
	publishTimeout  time.Duration
	metrics         *metrics
	log             *slog.Logger
	arriving        *arriving
	held            held
	now             func() time.Time
}

// New creates a Producer. It connects on first use.
func New(o Options) (*Producer, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("producer: no provider configured")
	}
	p := &Producer{
		topic:           o.Topic,
		deadLetterTopic: o.DeadLetterTopic,
		endpoints:       o.Endpoints,
		publishTimeout:  o.PublishTimeout,
		metrics:         newMetrics(o.Registerer, o.Endpoints),
		log:             o.Logger,
		arriving:        newArriving(maxArriving),
		held:            held{limit: maxHeld},
		turn:            make(chan struct{}, 1),
		now:             time.Now,
	}
	if p.publishTimeout == 0 {
		p.publishTimeout = defaultPublishTimeout
	}
	var err error
	// Clipped, since the caller may pass the same options to others too.
	p.client, err = kgo.NewClient(append(slices.Clip(o.Kafka),
		// acks=all and idempotence are kgo's defaults; acks are spelled out because
		// everything depends on them.
		kgo.RequiredAcks(kgo.AllISRAcks()),
		// Linger this long for other webhooks, which delays the answer by at most as
		// much. Without it, the five requests that may be in flight carry the webhooks of
		// a busy moment in small handfuls, a few per partition, which costs the broker
		// twice as much and this process a third more.
		kgo.ProducerLinger(time.Millisecond),
		kgo.RecordDeliveryTimeout(max(p.publishTimeout, time.Second)), // kgo's minimum
		kgo.MaxBufferedBytes(maxHeld),
		kgo.MaxBufferedRecords(maxHeld/heldPerRecord), // never reached before the limit in bytes
	)...)
	if err == nil {
		p.alone, err = kgo.NewClient(append(slices.Clip(o.Alone),
			kgo.RequiredAcks(kgo.AllISRAcks()),
			kgo.ProducerBatchMaxBytes(tracking.DeadLetterMaxBytes),
			kgo.AllowIdempotentProduceCancellation(), // it ends with the request
		)...)
	}
	if err != nil {
		return nil, fmt.Errorf("producer: %w", err)
	}
	return p, nil
}

// errNotAcknowledged says that Kafka did not acknowledge a record in time. It may still
// do so later: the provider sends the webhook again, and the consumer counts it once.
var errNotAcknowledged = errors.New("not acknowledged in time")

// publish returns no error once all in-sync replicas have all of records, except those
// that Kafka refused as too large, by index. It does not end with the request: if the
// client hangs up, its webhook is written all the same, and the metrics record the
// outcome.
func (p *Producer) publish(ctx context.Context, records []*kgo.Record) (refused []int, err error) {
	type outcome struct {
		i   int
		err error
	}
	outcomes := make(chan outcome, len(records)) // the receiver may be gone
	for i, r := range records {
		p.client.TryProduce(context.Background(), r, func(_ *kgo.Record, err error) { outcomes <- outcome{i, err} })
	}
	for range records {
		select {
		case o := <-outcomes:
			if errors.Is(o.err, kerr.MessageTooLarge) {
				refused = append(refused, o.i)
			} else if o.err != nil {
				return nil, p.failed(p.client, records[o.i].Topic, o.err)
			}
		case <-ctx.Done():
			return nil, p.failed(p.client, records[0].Topic, errNotAcknowledged)
		}
	}
	return refused, nil
}

// failed explains an error of writing to a topic; nil stays nil.
func (p *Producer) failed(client *kgo.Client, topic string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, kerr.UnknownTopicID) {
		// The topic was deleted and recreated: kgo keeps using the old one until it is
		// told to forget it. The provider sends the webhook again.
		client.PurgeTopicsFromProducing(topic)
	}
	return fmt.Errorf("write to topic %q: %w", topic, err)
}

// Ready returns nil while Kafka answers, allows producing and has the topics (by metadata
// that may be a few seconds old).
func (p *Producer) Ready(ctx context.Context) error {
	if err := p.client.Ping(ctx); err != nil {
		return fmt.Errorf("reach a broker: %w", err)
	}
	// kgo retries after a transient error, but never after any other: a producer that was
	// denied an id must be restarted once it is allowed one.
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

// Close closes the connections to Kafka. Call it after the HTTP server has answered its
// last request: by then nothing that anyone waits for is buffered.
func (p *Producer) Close() {
	p.client.Close()
	p.alone.Close()
}
