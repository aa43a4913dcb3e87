package consumer

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
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

	// letGoInterval is how often a member that always has something in hand finishes
	// it all. (kgo counts polls up to the next AllowRebalance, in 32 bits.)
	letGoInterval = time.Hour

	// workTimeout bounds the work on what a writer takes at once. After it come at
	// the most ten seconds in which the store looks into what happened. When a
	// rebalance of the group comes to wait, a writer may have to do that twice, since
	// others have begun the batches that wait for it; then the offsets are committed.
	// Kafka gives a member rebalanceTimeout for all of it, before it takes it for
	// stuck.
	workTimeout      = 30 * time.Second
	commitTimeout    = 10 * time.Second
	rebalanceTimeout = 2 * time.Minute

	// commitInterval is how often the client commits what is marked, the shortest that
	// it allows. A member that was killed leaves so much to be consumed again.
	commitInterval = 100 * time.Millisecond

	// sessionTimeout is how long a member that was killed keeps its partitions.
	sessionTimeout = 15 * time.Second

	// maxPause is how long a member waits before it tries again, once it has tried
	// for a while; ± 50 %.
	maxPause = 10 * time.Second

	// stopTimeout bounds what a stopping member spends on what is in hand, and
	// leaveTimeout what it spends on committing its offsets and leaving its group.
	stopTimeout  = 9 * time.Second
	leaveTimeout = 5 * time.Second
)

// Consumer is one member of the group.
type Consumer struct {
	// Set by New.
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
	abort           context.CancelFunc // ends what Close would wait for

	// Run's: no other goroutine touches them.
	backoff *backoff.ExponentialBackOff           // after a failure, until something is done
	failing map[int32]*backoff.ExponentialBackOff // of partitions whose last fetch failed
	allowed time.Time                             // when a rebalance could come last

	// Shared, each with a lock of its own.
	window    window    // Run's, writers' and the scrape's
	positions positions // Run's and the client's
	lags      lags      // the client's, watchLag's and the scrape's
	database  outage    // the writers'

	// committed says that the client has committed something, and nothing went away
	// uncommitted since.
	committed atomic.Bool

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
		seed:            maphash.MakeSeed(),
		metrics:         newMetrics(o.Registerer),
		log:             o.Logger,
		backoff:         newBackOff(),
		failing:         make(map[int32]*backoff.ExponentialBackOff),
		allowed:         time.Now(),
		window:          window{now: counts{dropped: make(map[drop]int)}},
		positions:       positions{of: make(map[int32]*position)},
		lags:            newLags(o.Topic),
	}
	o.Registerer.MustRegister(&c.lags, newTally(&c.window))
	for _, p := range o.Providers {
		c.providers[p.Name()] = p
	}
	if c.maxBatch == 0 {
		c.maxBatch = defaultMaxBatch
	}
	for range cmp.Or(o.Writers, defaultWriters) {
		c.writers = append(c.writers, newWriter(c))
	}
	base, abort := context.WithCancel(context.Background())
	c.abort = abort
	size := newFetchSize()
	all, partition := size.bytes()
	var err error
	c.client, err = kgo.NewClient(append(slices.Clip(o.Kafka),
		kgo.WithContext(base),
		kgo.ConsumeTopics(o.Topic),
		kgo.ConsumerGroup(o.Group),
		// A group that has never committed counts from the beginning.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// Only what Run has marked is committed: beside the work, not while the group
		// waits for others to rejoin, and again where that fails.
		kgo.AutoCommitMarks(),
		kgo.AutoCommitInterval(commitInterval),
		kgo.AutoCommitCallback(c.onAutoCommit),
		kgo.SessionTimeout(sessionTimeout),
		kgo.RebalanceTimeout(rebalanceTimeout),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsCallbackBlocked(c.onBlocked),
		kgo.OnPartitionsAssigned(c.onAssigned),
		kgo.OnPartitionsRevoked(c.onRevoked),
		kgo.OnPartitionsLost(c.onLost),
		kgo.AdjustFetchOffsetsFn(c.onFetchOffsets),
		kgo.MaxConcurrentFetches(fetchBrokers),
		kgo.FetchMaxBytes(all),
		kgo.FetchMaxPartitionBytes(partition),
		kgo.MaxDecompressBatchBytes(maxUnpackedBatch),
		kgo.WithHooks(size),
		// For dead letters; acks=all and idempotence are kgo's defaults.
		kgo.ProducerBatchMaxBytes(DeadLetterMaxBytes),
		kgo.RecordDeliveryTimeout(workTimeout),
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
