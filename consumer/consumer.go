package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// Store is the tally; [tracking.Store] is the one in use.
type Store interface {
	Apply(context.Context, []tracking.Event) (tracking.Result, error)
}

// Options of a [Consumer]. All but Kafka and MaxBatch are required.
type Options struct {
	// Kafka says how to reach the brokers: seeds, TLS, SASL.
	Kafka                         []kgo.Opt
	Topic, DeadLetterTopic, Group string
	Store                         Store
	Registerer                    prometheus.Registerer
	Logger                        *slog.Logger
	// MaxBatch is the most records that are applied in one transaction; 5,000 if
	// zero. Under less load batches are as small as what has come in meanwhile.
	MaxBatch int
}

const (
	defaultMaxBatch = 5_000

	// batchTimeout bounds the work on one batch, since a rebalance of the group
	// waits for it: half of what Kafka gives a member to rejoin.
	batchTimeout     = 30 * time.Second
	rebalanceTimeout = 60 * time.Second

	// sessionTimeout is how long a member that was killed keeps its partitions.
	sessionTimeout = 15 * time.Second

	// maxPause is how long a member waits at the most before it tries again.
	maxPause = 10 * time.Second

	// stopTimeout bounds what a stopping member spends on the batch in hand, and
	// then on leaving its group.
	stopTimeout  = 10 * time.Second
	leaveTimeout = 5 * time.Second

	// What is fetched ahead of the batch in hand: so much compressed, as it lies
	// in Kafka, from so many brokers at once. Webhooks are several times as large
	// when they are unpacked, so this decides how much memory a backlog takes.
	fetchBytes          = 2 << 20
	fetchPartitionBytes = 256 << 10
	fetchBrokers        = 3
)

// Consumer is one member of the group.
type Consumer struct {
	client          *kgo.Client
	topic           string
	deadLetterTopic string
	group           string
	store           Store
	maxBatch        int
	metrics         *metrics
	log             *slog.Logger
	assigned        assignment
}

// New makes a member; [Consumer.Run] has it join its group. It connects to
// nothing yet. A Consumer that is not Run must be closed.
func New(o Options) (*Consumer, error) {
	c := &Consumer{
		topic:           o.Topic,
		deadLetterTopic: o.DeadLetterTopic,
		group:           o.Group,
		store:           o.Store,
		maxBatch:        o.MaxBatch,
		metrics:         newMetrics(o.Registerer),
		log:             o.Logger,
	}
	if c.maxBatch == 0 {
		c.maxBatch = defaultMaxBatch
	}
	var err error
	c.client, err = kgo.NewClient(append(o.Kafka,
		kgo.ConsumeTopics(o.Topic),
		kgo.ConsumerGroup(o.Group),
		// A group that has never committed counts from the beginning.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(sessionTimeout),
		kgo.RebalanceTimeout(rebalanceTimeout),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
		kgo.MaxConcurrentFetches(fetchBrokers),
		kgo.OnPartitionsAssigned(c.onAssigned),
		kgo.OnPartitionsRevoked(c.onRevoked),
		kgo.OnPartitionsLost(c.onLost),
		// For dead letters; acks=all and idempotence are kgo's defaults.
		kgo.ProducerBatchMaxBytes(deadLetterMaxBytes),
		kgo.RecordDeliveryTimeout(batchTimeout),
	)...)
	if err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	return c, nil
}

// Run consumes until ctx ends, then finishes the batch in hand, commits it,
// leaves the group and returns: within stopTimeout and leaveTimeout. Errors of
// Kafka and PostgreSQL do not end it; it waits for them to pass.
func (c *Consumer) Run(ctx context.Context) {
	defer c.Close()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		// The batch in hand outlives ctx by so much.
		select {
		case <-time.After(stopTimeout):
			cancel()
		case <-work.Done():
		}
	})()
	lagging, stopLag := context.WithCancel(ctx)
	lagStopped := c.watchLag(lagging)
	defer func() { stopLag(); lagStopped() }()

	pause := backoff.NewExponentialBackOff() // from half a second, growing by half, each ± 50 %
	pause.MaxInterval = maxPause
	limit := c.maxBatch
	for {
		// A rebalance of the group waits from here …
		fetches := c.client.PollRecords(ctx, limit)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			c.client.AllowRebalance()
			return
		}
		outcome, err := c.process(work, fetches)
		if err != nil {
			c.rewind(fetches)
		}
		c.client.AllowRebalance() // … to here.

		limit = nextLimit(outcome, limit, fetches.NumRecords(), c.maxBatch)
		if err == nil {
			err = fetchError(fetches)
		}
		if err == nil || outcome == tooMuch {
			pause.Reset()
			continue
		}
		wait := pause.NextBackOff()
		c.log.Warn("pausing: nothing is lost, what was not applied is fetched again",
			"error", err, "retry_in", wait.Round(time.Millisecond).String())
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// outcome says how a batch went.
type outcome int

const (
	applied  outcome = iota // all of it that can be counted is
	isolated                // it was a single event, which PostgreSQL refused for good: set aside
	tooMuch                 // it holds a row that PostgreSQL refuses, among others
	tooLong                 // it was not done in time
	failed
)

// nextLimit is the most records to take next. A batch with a row that PostgreSQL
// refuses, or that takes it too long, is taken in halves: until the row is
// alone, or the database keeps up. After a refused row the next is looked at
// alone too, since they seldom come alone.
func nextLimit(o outcome, limit, taken, most int) int {
	switch o {
	case applied:
		return min(2*limit, most)
	case tooMuch, tooLong:
		return max(1, taken/2)
	}
	return limit
}

// process works one batch off, in the order that loses nothing: PostgreSQL
// commits, Kafka acknowledges the dead letters, and then the offsets are
// committed. After an error all of it may be done again.
func (c *Consumer) process(ctx context.Context, fetches kgo.Fetches) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()

	b, unreadable := decode(fetches)
	refused, err := c.apply(ctx, b)
	var refusal *tracking.RefusedError
	switch {
	case errors.As(err, &refusal):
		return tooMuch, err
	case err != nil:
		reason := tracking.RetryReason(err)
		c.metrics.retries.WithLabelValues(reason).Inc()
		if reason == tracking.RetryTimeout {
			return tooLong, err
		}
		return failed, err
	}
	if err := c.deadLetter(ctx, append(unreadable, refused...)); err != nil {
		return failed, err
	}
	c.commit(ctx, fetches)
	if len(refused) > 0 {
		return isolated, nil
	}
	return applied, nil
}

// commit commits the offsets behind fetches. Where that fails no harm is done:
// the next commit of the partition covers it, or another member applies the
// records again, to no effect.
func (c *Consumer) commit(ctx context.Context, fetches kgo.Fetches) {
	var last []*kgo.Record
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if n := len(p.Records); n > 0 {
			last = append(last, p.Records[n-1])
		}
	})
	if len(last) == 0 {
		return
	}
	if err := c.client.CommitRecords(ctx, last...); err != nil {
		c.log.Warn("offsets not committed: the records will be consumed again and come out as duplicates", "error", err)
	}
}

// rewind makes the next poll start where fetches did. It is called while a
// rebalance waits, so the partitions are ours.
func (c *Consumer) rewind(fetches kgo.Fetches) {
	offsets := make(map[string]map[int32]kgo.EpochOffset)
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if len(p.Records) == 0 {
			return
		}
		if offsets[p.Topic] == nil {
			offsets[p.Topic] = make(map[int32]kgo.EpochOffset)
		}
		first := p.Records[0]
		offsets[p.Topic][p.Partition] = kgo.EpochOffset{Epoch: first.LeaderEpoch, Offset: first.Offset}
	})
	c.client.SetOffsets(offsets)
}

// fetchError joins the errors of partitions that brought no records. kgo goes on
// by itself; the error makes the loop pause, rather than spin.
func fetchError(fetches kgo.Fetches) error {
	var errs []error
	fetches.EachError(func(topic string, partition int32, err error) {
		errs = append(errs, fmt.Errorf("fetch from topic %q partition %d: %w", topic, partition, err))
	})
	return errors.Join(errs...)
}

// Ready is nil while the member has its place in the group and its topics
// exist.
func (c *Consumer) Ready(ctx context.Context) error {
	topics, err := kadm.NewClient(c.client).ListTopics(ctx, c.topic, c.deadLetterTopic)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	for _, topic := range []string{c.topic, c.deadLetterTopic} {
		if err := topics[topic].Err; err != nil {
			return fmt.Errorf("topic %q: %w (mailtally migrate creates it)", topic, err)
		}
	}
	if member, generation := c.client.GroupMetadata(); member == "" || generation < 0 {
		return fmt.Errorf("not a member of group %q yet", c.group)
	}
	return nil
}

// Close leaves the group. It is for a Consumer that is not Run, and may be
// called more than once.
func (c *Consumer) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if err := c.client.LeaveGroupContext(ctx); err != nil {
		c.log.Warn("group not left: the broker gives the partitions to others when the session times out",
			"group", c.group, "session_timeout", sessionTimeout.String(), "error", err)
	}
	c.client.CloseAllowingRebalance()
}
