package consumer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mailtally/mailtally/tracking"
)

// metrics are the ones outside the tally. All series exist from the start.
type metrics struct {
	lost                       prometheus.Counter
	applyDuration, batchEvents prometheus.Histogram
	delay                      prometheus.Histogram
	retries                    *prometheus.CounterVec
}

// retryDeadLetter is the one reason for a retry that comes from Kafka: the dead letters
// were not acknowledged. The other reasons are tracking's.
const retryDeadLetter = "dead_letter"

// The buckets come from `make bench` (internal/bench/measured/short.md). They start below
// the usual value, so that its quantiles are more than a guess, and end where a timeout
// applies or the exact value no longer matters. Native histograms resolve 10 % over the
// whole range.
var (
	// A batch of one takes 0.7 ms, thousands under a backlog 10 to 50 ms; a database
	// 10 ms away adds two to four times that latency. workTimeout is the upper limit.
	applyBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

	// One event at a time below a few hundred a second, 90 at 10,000 a second, 2,300 to
	// 5,000 under a backlog; 10,000 is the default CONSUMER_MAX_BATCH.
	batchBuckets = []float64{1, 3, 10, 30, 100, 300, 1000, 2000, 3000, 5000, 10000}

	// The median is 2.5 ms at 200 a second and 5 ms at 10,000; p99 is 5.7 and 40 ms.
	// Above 10 s is late; the buckets beyond show how long a standstill was.
	delayBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200}
)

func newMetrics(reg prometheus.Registerer) *metrics {
	with := promauto.With(reg)
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return with.NewHistogram(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: buckets,
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 160,
		})
	}
	m := &metrics{
		lost: with.NewCounter(prometheus.CounterOpts{
			Name: "mailtally_records_lost_total",
			Help: "Records that Kafka's retention removed before the group had consumed them: those webhooks are counted nowhere. It should stay 0; the log has topic, partition and offsets. If the group's committed offsets have expired, the loss cannot be known and stays 0: the log warns of no committed offset.",
		}),
		applyDuration: histogram("mailtally_apply_duration_seconds",
			"Time PostgreSQL took to apply and commit a batch. A batch that failed is in mailtally_apply_retries_total instead.", applyBuckets),
		batchEvents: histogram("mailtally_apply_batch_events",
			"Events in a committed batch. Batches grow with the load, and when the database is slow.", batchBuckets),
		delay: histogram("mailtally_event_delay_seconds",
			"Time from a webhook's receipt by a producer to the commit of its event. While nothing is committed, nothing is observed: look at mailtally_consumer_lag instead.", delayBuckets),
		retries: with.NewCounterVec(prometheus.CounterOpts{
			Name: "mailtally_apply_retries_total",
			Help: "Batches that failed and are retried, by reason. Nothing is lost, but their events wait.",
		}, []string{"reason"}),
	}
	for _, reason := range append(tracking.RetryReasons(), retryDeadLetter) {
		m.retries.WithLabelValues(reason)
	}
	return m
}

// observeApplied observes a transaction that PostgreSQL has committed, and the age of its
// webhooks since their receipt.
func (m *metrics) observeApplied(items []*item, took time.Duration) {
	now := time.Now()
	events := 0
	for _, i := range items {
		if i.why == nil {
			events++
			m.delay.Observe(max(0, now.Sub(i.received).Seconds()))
		}
	}
	m.applyDuration.Observe(took.Seconds())
	m.batchEvents.Observe(float64(events))
}
