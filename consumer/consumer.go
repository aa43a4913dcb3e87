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

// Store is the tally: a [tracking.Store], except in tests.
type Store interface {
	Apply(context.Context, []tracking.Event) (tracking.Result, error)
}

// Options configure a [Consumer]. All but Kafka, MaxBatch and Writers are required.
type Options struct {
	// Kafka says how to reach the brokers: seeds, TLS, SASL.
	Kafka                         []kgo.Opt
	Topic, DeadLetterTopic, Group string
	// Providers are the ones whose records can be decoded.
	Providers  []provider.Provider
	Store      Store
	Registerer prometheus.Registerer
	Logger     *slog.Logger
	// MaxBatch limits the records per poll and the events per transaction; 10,000 if
	// zero. Under light load, batches hold only what has arrived since the last poll.
	MaxBatch int
	// Writers is the number of concurrent transactions under a backlog; 4 if zero. It
	// is also the number of goroutines that call the Store.
	Writers int
	// MaxRefused is how many events in a row the member drops because PostgreSQL refuses
	// them, before it waits for one to be applied; 100 if zero, no limit if negative.
	MaxRefused int
}

const (
	defaultMaxBatch   = 10_000
	defaultWriters    = 4
	defaultMaxRefused = 100

	// letGoInterval is how often a member that is never idle empties its window. (kgo
	// counts the polls until the next AllowRebalance in 32 bits.)
	letGoInterval = time.Hour

	// workTimeout bounds the processing of what a writer takes at once. After it, the
	// store may spend up to ten more seconds finding out what happened. When a rebalance
	// is waiting, a writer may have to do that twice, since other writers may already
	// have begun the batches that wait for it; then the offsets are committed. Kafka
	// gives a member rebalanceTimeout for all of it before it considers the member stuck.
	workTimeout      = 30 * time.Second
	commitTimeout    = 10 * time.Second
	rebalanceTimeout = 2 * time.Minute

	// commitInterval is how often the client commits what is marked; this is the shortest
	// it allows. When a member is killed, this much is consumed again.
	commitInterval = 100 * time.Millisecond

	// sessionTimeout is how long a killed member keeps its partitions.
	sessionTimeout = 15 * time.Second

	// maxPause is the longest back-off between retries; ± 50 %.
	maxPause = 10 * time.Second

	// stopTimeout bounds the time a stopping member spends on its window, and
	// leaveTimeout the time it spends on committing its offsets and leaving its group.
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
	maxRefused      int
	writers         []*writer
	seed            maphash.Seed // of the hash that assigns keys to writers
	metrics         *metrics
	log             *slog.Logger
	abort           context.CancelFunc // cancels what Close would otherwise wait for

	// Used only by Run's goroutine.
	backoff *backoff.ExponentialBackOff           // after a failure, until there is progress
	failing map[int32]*backoff.ExponentialBackOff // by partition, whose fetch, dead letter or next event failed
	allowed time.Time                             // when a rebalance was last allowed

	// Shared; each has its own lock.
	window    window    // by Run, the writers and the scrape
	positions positions // by Run and the client
	lags      lags      // by the client, watchLag and the scrape
	database  outage    // by the writers

	writing chan struct{} // taken by the writer that writes dead letters

	// marked says that something has been marked for the client to commit, and that no
	// partition has been lost since.
	marked atomic.Bool

	// keepRecords is set when PostgreSQL has refused an event for good: its record is
	// needed for the dead letter. It is cleared once the whole window has finished
	// without such an event.
	keepRecords atomic.Bool

	// yield asks Run to empty the window: a rebalance is waiting, a writer has failed, or
	// the member is to stop.
	yield atomic.Bool
}

// New creates a member; [Consumer.Run] makes it join its group. It does not connect yet.
// A Consumer that is never Run must be closed.
func New(o Options) (*Consumer, error) {
	c := &Consumer{
		topic:           o.Topic,
		deadLetterTopic: o.DeadLetterTopic,
		group:           o.Group,
		providers:       make(map[string]provider.Provider),
		store:           o.Store,
		maxBatch:        o.MaxBatch,
		maxRefused:      cmp.Or(o.MaxRefused, defaultMaxRefused),
		seed:            maphash.MakeSeed(),
		metrics:         newMetrics(o.Registerer),
		log:             o.Logger,
		backoff:         newBackOff(),
		failing:         make(map[int32]*backoff.ExponentialBackOff),
		allowed:         time.Now(),
		window:          window{now: counts{dropped: make(map[drop]int)}},
		positions:       positions{of: make(map[int32]*position)},
		lags:            newLags(o.Topic),
		writing:         make(chan struct{}, 1),
	}
	o.Registerer.MustRegister(&c.lags, newTally(&c.window, c.maxRefused))
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
	unpack, err := newUnpacking()
	if err != nil {
		abort()
		return nil, fmt.Errorf("consumer: %w", err)
	}
	c.client, err = kgo.NewClient(append(slices.Clip(o.Kafka),
		kgo.WithContext(base),
		kgo.ConsumeTopics(o.Topic),
		kgo.ConsumerGroup(o.Group),
		// A group that has never committed starts at the beginning.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// Only what Run has marked is committed. That happens in the background, not
		// while the group waits for others to rejoin, and is retried if it fails.
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
		// Nothing of a transaction that is open or aborted. Control records come too, so
		// that the group commits past them: otherwise they would be lag for ever.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(fetchMaxWait),
		kgo.FetchMaxBytes(all),
		kgo.FetchMaxPartitionBytes(partition),
		kgo.WithDecompressor(unpack),
		kgo.WithHooks(size, unpack),
		// For dead letters. acks=all and idempotence are kgo's defaults.
		kgo.ProducerBatchMaxBytes(tracking.DeadLetterMaxBytes),
		kgo.RecordDeliveryTimeout(workTimeout),
		// Also give up a record that was sent but not answered, rather than wait for it
		// while the group cannot rebalance. It is written again, so there may be two.
		kgo.AllowIdempotentProduceCancellation(),
	)...)
	if err != nil {
		abort()
		return nil, fmt.Errorf("consumer: %w", err)
	}
	return c, nil
}

// Ready returns nil while the member is in its group and its topics exist.
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

// Close leaves the group. Call it only on a Consumer that is not being Run; calling it
// more than once is fine.
func (c *Consumer) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	start := time.Now()
	member, generation := c.client.GroupMetadata()
	if err := c.client.LeaveGroupContext(ctx); err != nil {
		c.log.Warn("group not left: the broker reassigns the partitions when the session times out",
			"group", c.group, "session_timeout", sessionTimeout.String(), "error", err)
	} else if member != "" && generation >= 0 { // otherwise it was in no group
		c.log.Info("group left", "group", c.group, "duration", since(start))
	}
	c.abort() // no longer wait for a broker that has not answered by now
	start = time.Now()
	c.client.CloseAllowingRebalance()
	// Closing leaves the group once more, in a goroutine that nobody waits for. If that
	// begins only after the last poll, which closing makes too, it waits for this forever.
	c.client.AllowRebalance()
	c.log.Info("Kafka connections closed", "duration", since(start))
}
