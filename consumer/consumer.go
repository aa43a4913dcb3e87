package consumer

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider"
)

// Store is the tally; [tracking.Store] is the one in use.
type Store interface {
	Apply(context.Context, []tracking.Event) (tracking.Result, error)
}

// Options of a [Consumer]. All but Kafka, MaxBatch and Writers are required.
type Options struct {
	// Kafka says how to reach the brokers: seeds, TLS, SASL.
	Kafka                         []kgo.Opt
	Topic, DeadLetterTopic, Group string
	// Providers are those whose records can be read.
	Providers  []provider.Provider
	Store      Store
	Registerer prometheus.Registerer
	Logger     *slog.Logger
	// MaxBatch is the most records that are taken from Kafka at once, and the most
	// events of a transaction; 10,000 if zero. Under less load batches are as small
	// as what has come in meanwhile.
	MaxBatch int
	// Writers is how many transactions go on at once under a backlog; 4 if zero. The
	// store is called by as many goroutines.
	Writers int
}

const (
	defaultMaxBatch = 10_000
	defaultWriters  = 4

	// No more is polled while so many times MaxBatch are in hand, or webhooks of so
	// many bytes, or so many batches, tiny as they may be. Of a webhook its event
	// stays, about half a kilobyte.
	maxInHand        = 4
	maxBytesInHand   = 64 << 20
	maxBatchesInHand = 256

	// letGoInterval is how often a member that always has something in hand finishes
	// it all. (kgo counts polls up to the next AllowRebalance, in 32 bits.)
	letGoInterval = time.Hour

	// batchTimeout bounds the work on what a writer takes at once. After it come at
	// the most ten seconds in which the store looks into what happened. When a
	// rebalance of the group comes to wait, a writer may have to do that twice, since
	// others have begun the batches that wait for it; then the offsets are committed.
	// Kafka gives a member rebalanceTimeout for all of it, before it takes it for
	// stuck.
	batchTimeout     = 30 * time.Second
	commitTimeout    = 10 * time.Second
	commitRetry      = time.Second // and how long a rebalance may wait for the end of a poll
	rebalanceTimeout = 2 * time.Minute

	// sessionTimeout is how long a member that was killed keeps its partitions.
	sessionTimeout = 15 * time.Second

	// maxPause is how long a member waits before it tries again, once it has tried
	// for a while; ± 50 %.
	maxPause = 10 * time.Second

	// stopTimeout bounds what a stopping member spends on what is in hand, and
	// then on leaving its group.
	stopTimeout       = 9 * time.Second
	lastCommitTimeout = 2 * time.Second
	leaveTimeout      = 3 * time.Second

	// What is fetched ahead of the batches in hand: so much compressed, as it lies
	// in Kafka, from so many brokers at once. Webhooks are several times as large
	// when they are unpacked, so this decides how much memory a backlog takes, and
	// bounds a poll in bytes.
	fetchBytes          = 2 << 20
	fetchPartitionBytes = 512 << 10
	fetchBrokers        = 3
)

// Consumer is one member of the group.
type Consumer struct {
	client          *kgo.Client
	topic           string
	deadLetterTopic string
	group           string
	providers       map[string]provider.Provider
	store           Store
	maxBatch        int
	writers         []*writer
	seed            maphash.Seed // of the hash that shares keys out among writers
	metrics         *metrics
	log             *slog.Logger
	assigned        *assignment
	positions       positions
	offsets         offsets
	committing      sync.WaitGroup
	database        outage
	abort           context.CancelFunc // ends what Close would wait for

	// keepRecords is set when PostgreSQL has refused an event for good, until all in
	// hand is finished and no such event among it: its record is wanted for the dead
	// letter.
	keepRecords atomic.Bool

	// yield asks Run to let go of what it has: a rebalance of the group waits, a
	// writer has failed, or the member is to stop.
	yield atomic.Bool
}

// New makes a member; [Consumer.Run] has it join its group. It connects to
// nothing yet. A Consumer that is not Run must be closed.
func New(o Options) (*Consumer, error) {
	c := &Consumer{
		topic:           o.Topic,
		deadLetterTopic: o.DeadLetterTopic,
		group:           o.Group,
		providers:       make(map[string]provider.Provider),
		store:           o.Store,
		maxBatch:        o.MaxBatch,
		metrics:         newMetrics(o.Registerer),
		log:             o.Logger,
		seed:            maphash.MakeSeed(),
		assigned:        newAssignment(o.Topic),
		positions:       positions{of: make(map[int32]*position)},
		offsets:         newOffsets(),
	}
	for _, p := range o.Providers {
		c.providers[p.Name()] = p
	}
	o.Registerer.MustRegister(c.assigned)
	if c.maxBatch == 0 {
		c.maxBatch = defaultMaxBatch
	}
	for range cmp.Or(o.Writers, defaultWriters) {
		c.writers = append(c.writers, newWriter(c))
	}
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
		kgo.OnPartitionsCallbackBlocked(func(context.Context, *kgo.Client) { c.yield.Store(true) }),
		kgo.OnPartitionsAssigned(c.onAssigned),
		kgo.AdjustFetchOffsetsFn(c.onOffsets),
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
	start := time.Now()
	member, generation := c.client.GroupMetadata()
	if err := c.client.LeaveGroupContext(ctx); err != nil {
		c.log.Warn("group not left: the broker gives the partitions to others when the session times out",
			"group", c.group, "session_timeout", sessionTimeout.String(), "error", err)
	} else if member != "" && generation >= 0 { // or else it was in none
		c.log.Info("group left", "group", c.group, "duration", since(start))
	}
	c.abort() // a broker that did not answer until now need not be waited for
	start = time.Now()
	c.client.CloseAllowingRebalance()
	c.log.Info("Kafka connections closed", "duration", since(start))
}
