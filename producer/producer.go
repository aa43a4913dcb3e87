package producer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Options of a [Producer]. Required but for PublishTimeout.
type Options struct {
	// Kafka says how to reach the brokers: seeds, TLS, SASL.
	Kafka                  []kgo.Opt
	Topic, DeadLetterTopic string
	// Secrets are Resend's; more than one while rotating. None is an error.
	Secrets    []Secret
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

	// maxBody is the most a webhook may have: real ones have about 1 KiB.
	maxBody = 256 << 10

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
	secrets         []Secret
	publishTimeout  time.Duration
	metrics         *metrics
	log             *slog.Logger
	held            held
	pending         sync.Pool // of *pending
	now             func() time.Time
}

// New makes a Producer. It connects when it first has to.
func New(o Options) (*Producer, error) {
	if len(o.Secrets) == 0 {
		return nil, errors.New("producer: no secret to check signatures with")
	}
	for _, s := range o.Secrets {
		if s.sign == nil {
			return nil, errors.New("producer: an empty secret: anybody could sign with it")
		}
	}
	p := &Producer{
		topic:           o.Topic,
		deadLetterTopic: o.DeadLetterTopic,
		secrets:         o.Secrets,
		publishTimeout:  o.PublishTimeout,
		metrics:         newMetrics(o.Registerer),
		log:             o.Logger,
		held:            held{limit: maxHeld},
		pending:         sync.Pool{New: func() any { return newPending() }},
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
		kgo.MaxBufferedRecords(maxHeld/heldPerRequest), // a limit that is never met first
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

// pending awaits one acknowledgement at a time, and is used again for another.
type pending struct {
	acknowledged chan error
	promise      func(*kgo.Record, error) // sends it
	timeout      *time.Timer
}

func newPending() *pending {
	p := &pending{acknowledged: make(chan error, 1), timeout: time.NewTimer(0)}
	p.promise = func(_ *kgo.Record, err error) { p.acknowledged <- err }
	return p
}

// publish returns nil when all in-sync replicas have the record. It does not
// end with the request: a client that hangs up has its webhook written all the
// same, and the metrics say what became of it.
func (p *Producer) publish(record *kgo.Record) error {
	start := time.Now()
	w := p.pending.Get().(*pending)
	w.timeout.Reset(p.publishTimeout)
	p.client.TryProduce(context.Background(), record, w.promise)
	select {
	case err := <-w.acknowledged:
		w.timeout.Stop()
		p.pending.Put(w)
		if err == nil {
			p.metrics.publish.Observe(time.Since(start).Seconds())
		}
		if errors.Is(err, kerr.UnknownTopicID) {
			// The topic was deleted and made anew: kgo keeps to the old one until it
			// is told to forget it. The webhook comes again.
			p.client.PurgeTopicsFromProducing(record.Topic)
		}
		return err
	case <-w.timeout.C:
		// The acknowledgement may still come, so nobody else may have w.
		return errNotAcknowledged
	}
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
