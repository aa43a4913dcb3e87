package producer

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mailtally/mailtally/tracking/provider"
)

// result is the outcome of an event or a request: a closed set, which labels a metric.
// Anything other than a POST to a webhook path (404, 405), or not HTTP at all, is not a
// webhook and is not counted.
type result string

const (
	accepted     result = "accepted"     // in Kafka
	ignored      result = "ignored"      // of a type that is not tracked, or a request without an event
	unauthorized result = "unauthorized" // not proved to be the provider's (401)
	incomplete   result = "incomplete"   // its body did not arrive (408)
	malformed    result = "malformed"    // unreadable, in the dead-letter topic
	tooLarge     result = "too_large"
	unavailable  result = "unavailable" // Kafka did not acknowledge it in time, or too much waits for Kafka
)

type metrics struct {
	webhooks map[string]map[result]prometheus.Counter // by provider
	publish  prometheus.Histogram
}

// publishBuckets come from `make bench` (internal/bench/measured/short.md). The median
// answer takes 1.2 to 2.4 ms, of which one is the linger, and p99 is 3 to 12 ms up to 256
// connections; 2,000 connections raise the median to 45 ms. PublishTimeout is the upper
// limit, 8 s.
var publishBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

func newMetrics(reg prometheus.Registerer, endpoints []provider.Endpoint) *metrics {
	webhooks := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "mailtally_webhooks_total",
		Help: "Webhooks answered, by result; each event of a request by its own result. 200: accepted (in Kafka), ignored (a type that is not tracked, or a request without events), malformed (in the dead-letter topic). Refused: unauthorized (401), incomplete (408: its body did not arrive), too_large (413), unavailable (503: Kafka did not acknowledge it, and the provider sends it again).",
	}, []string{"provider", "result"})
	m := &metrics{
		webhooks: make(map[string]map[result]prometheus.Counter),
		publish: promauto.With(reg).NewHistogram(prometheus.HistogramOpts{
			Name:                           "mailtally_publish_duration_seconds",
			Help:                           "Time until all in-sync replicas had acknowledged all records of a request, dead letters too. A request that was not acknowledged in time counts as unavailable in mailtally_webhooks_total instead.",
			Buckets:                        publishBuckets,
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 160,
		}),
	}
	for _, e := range endpoints {
		m.webhooks[e.Name()] = make(map[result]prometheus.Counter)
		for _, r := range []result{accepted, ignored, unauthorized, incomplete, malformed, tooLarge, unavailable} {
			m.webhooks[e.Name()][r] = webhooks.WithLabelValues(e.Name(), string(r))
		}
	}
	return m
}
