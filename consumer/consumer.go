package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
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
	// waits for it. After it come at the most ten seconds in which the store looks
	// into what happened, and commitTimeout: together less than the minute that
	// Kafka gives a member to rejoin.
	batchTimeout     = 30 * time.Second
	commitTimeout    = 10 * time.Second
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
	limit           int // of the next transaction: maxBatch, or less after hard batches
	metrics         *metrics
	log             *slog.Logger
	assigned        assignment
	abort           context.CancelFunc // ends what Close would wait for
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
	c.limit = c.maxBatch
	base, abort := context.WithCancel(context.Background())
	c.abort = abort
	var err error
	c.client, err = kgo.NewClient(append(slices.Clip(o.Kafka),
		kgo.WithContext(base),
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
		kgo.ProducerBatchMaxBytes(DeadLetterMaxBytes),
		kgo.RecordDeliveryTimeout(batchTimeout),
		// One that was sent and not answered is given up too, rather than waited for
		// while the group cannot rebalance. It is written again, perhaps twice.
		kgo.AllowIdempotentProduceCancellation(),
	)...)
	if err != nil {
		abort()
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
	for {
		// A rebalance of the group waits from here …
		fetches := c.client.PollRecords(ctx, c.maxBatch)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			c.client.AllowRebalance()
			return
		}
		done, err := c.process(work, fetches)
		c.client.AllowRebalance() // … to here.

		if done > 0 {
			pause.Reset()
		}
		if err = errors.Join(err, c.fetchError(fetches)); err == nil {
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

// process works a batch off and commits the offsets behind what is done. What an
// error leaves is fetched again by the next poll.
func (c *Consumer) process(ctx context.Context, fetches kgo.Fetches) (done int, err error) {
	items := decode(fetches)
	working, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	left, err := c.workOff(working, items)
	done = len(items) - len(left)
	c.commit(ctx, items[:done])
	c.rewind(left)
	return done, err
}

// commit commits the offsets behind items, which are done. Where that fails no
// harm is done: the next commit of the partition covers it, or another member
// applies the records again, to no effect.
func (c *Consumer) commit(ctx context.Context, items []item) {
	if len(items) == 0 {
		return
	}
	var last []*kgo.Record // of each partition: they come one after the other
	for i := range items {
		if r := items[i].record; i+1 == len(items) || r.Partition != items[i+1].record.Partition {
			last = append(last, r)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if err := c.client.CommitRecords(ctx, last...); err != nil {
		c.log.Warn("offsets not committed: the records will be consumed again and come out as duplicates", "error", err)
	}
}

// rewind makes the next poll start with items, which are not done. It is called
// while a rebalance waits, so their partitions are ours.
func (c *Consumer) rewind(items []item) {
	offsets := make(map[int32]kgo.EpochOffset)
	for _, i := range items {
		if _, known := offsets[i.record.Partition]; !known {
			offsets[i.record.Partition] = kgo.EpochOffset{Epoch: i.record.LeaderEpoch, Offset: i.record.Offset}
		}
	}
	if len(offsets) > 0 {
		c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{c.topic: offsets})
	}
}

// fetchError joins the errors of partitions that brought no records. kgo goes on
// by itself; the error makes the loop pause, rather than spin. Only to a topic
// that was deleted and made anew it has to be sent: its id is another. (Offsets
// of a batch in hand may be committed to it by name, which skips as many of its
// first records: a group should be stopped before its topic is deleted.)
func (c *Consumer) fetchError(fetches kgo.Fetches) error {
	var errs []error
	anew := false
	fetches.EachError(func(topic string, partition int32, err error) {
		anew = anew || errors.Is(err, kerr.UnknownTopicID)
		errs = append(errs, fmt.Errorf("fetch from topic %q partition %d: %w", topic, partition, err))
	})
	if anew {
		c.client.PurgeTopicsFromConsuming(c.topic)
		c.client.AddConsumeTopics(c.topic)
	}
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
	c.abort() // a broker that did not answer until now need not be waited for
	c.client.CloseAllowingRebalance()
}
