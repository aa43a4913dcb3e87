package consumer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mailtally/mailtally/tracking"
)

// metrics count what PostgreSQL has committed and the dead letters that Kafka has
// acknowledged. A batch that fails before counts nothing; what is consumed again
// after that comes out as duplicates. All series exist from the start.
type metrics struct {
	consumed, applied, duplicate *prometheus.CounterVec
	dropped                      *prometheus.CounterVec
	firstOpens, firstClicks      prometheus.Counter
	applyDuration, batchEvents   prometheus.Histogram
	delay                        prometheus.Histogram
	retries                      *prometheus.CounterVec
	lag                          *prometheus.GaugeVec
}

// retryDeadLetter is the reason to try a batch again that is Kafka's: its dead
// letters were not acknowledged. The others are tracking's.
const retryDeadLetter = "dead_letter"

func newMetrics(reg prometheus.Registerer) *metrics {
	with := promauto.With(reg)
	byType := func(name, help string) *prometheus.CounterVec {
		return with.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"type"})
	}
	m := &metrics{
		consumed: byType("mailtally_events_consumed_total",
			"Events taken from Kafka and done with: always the sum of applied, duplicate and dropped."),
		applied: byType("mailtally_events_applied_total",
			"Events counted in the tally for the first time."),
		duplicate: byType("mailtally_events_duplicate_total",
			"Events that the tally had counted already: redeliveries of the provider or of Kafka."),
		dropped: with.NewCounterVec(prometheus.CounterOpts{
			Name: "mailtally_events_dropped_total",
			Help: "Events that cannot be counted, each in the dead-letter topic, by reason. One whose batch is done again counts again.",
		}, []string{"type", "reason"}),
		firstOpens: with.NewCounter(prometheus.CounterOpts{
			Name: "mailtally_first_opens_total",
			Help: "Emails opened for the first time. Over all members it is the number of rows with opened_at.",
		}),
		firstClicks: with.NewCounter(prometheus.CounterOpts{
			Name: "mailtally_first_clicks_total",
			Help: "Emails clicked for the first time. Over all members it is the number of rows with clicked_at.",
		}),
		applyDuration: with.NewHistogram(prometheus.HistogramOpts{
			Name:                           "mailtally_apply_duration_seconds",
			Help:                           "Time PostgreSQL took to apply and commit a batch.",
			Buckets:                        []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 160,
		}),
		batchEvents: with.NewHistogram(prometheus.HistogramOpts{
			Name:                           "mailtally_apply_batch_events",
			Help:                           "Events in a committed batch.",
			Buckets:                        []float64{1, 3, 10, 30, 100, 300, 1000, 3000, 5000, 10000},
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 160,
		}),
		delay: with.NewHistogram(prometheus.HistogramOpts{
			Name:                           "mailtally_event_delay_seconds",
			Help:                           "Time from a webhook's receipt by a producer to the commit of its event.",
			Buckets:                        []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200},
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 160,
		}),
		retries: with.NewCounterVec(prometheus.CounterOpts{
			Name: "mailtally_apply_retries_total",
			Help: "Batches that were not applied and are tried again, by reason. Nothing is lost by it.",
		}, []string{"reason"}),
		lag: with.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mailtally_consumer_lag",
			Help: "Records of a partition that are not committed yet, as seen by the member that owns it.",
		}, []string{"topic", "partition"}),
	}
	for _, t := range append(tracking.Types(), 0) { // 0: what was dropped before its type was known
		m.consumed.WithLabelValues(t.String())
		m.applied.WithLabelValues(t.String())
		m.duplicate.WithLabelValues(t.String())
		for _, reason := range tracking.Reasons() {
			m.dropped.WithLabelValues(t.String(), string(reason))
		}
	}
	for _, reason := range append(tracking.RetryReasons(), retryDeadLetter) {
		m.retries.WithLabelValues(reason)
	}
	return m
}

// countApplied counts the events of items, which PostgreSQL has committed.
func (m *metrics) countApplied(items []*item, result tracking.Result, took time.Duration) {
	now := time.Now()
	var consumed tracking.Counts
	for _, i := range items {
		if i.why == nil {
			consumed[i.event.Type]++
			m.delay.Observe(max(0, now.Sub(i.received).Seconds()))
		}
	}
	total := 0
	for _, t := range tracking.Types() {
		if n := consumed[t]; n > 0 {
			m.consumed.WithLabelValues(t.String()).Add(float64(n))
			m.applied.WithLabelValues(t.String()).Add(float64(result.Applied[t]))
			m.duplicate.WithLabelValues(t.String()).Add(float64(result.Duplicate[t]))
			total += n
		}
	}
	m.firstOpens.Add(float64(result.FirstOpens))
	m.firstClicks.Add(float64(result.FirstClicks))
	m.applyDuration.Observe(took.Seconds())
	m.batchEvents.Observe(float64(total))
}

// countDropped counts an acknowledged dead letter.
func (m *metrics) countDropped(why *tracking.DropError) {
	m.consumed.WithLabelValues(why.Type.String()).Inc()
	m.dropped.WithLabelValues(why.Type.String(), string(why.Reason)).Inc()
}
