package producer

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mailtally/mailtally/tracking"
)

// result is what became of a webhook: a closed set, which labels a metric.
type result string

const (
	accepted     result = "accepted"     // in Kafka
	ignored      result = "ignored"      // of a type that is not tracked
	unauthorized result = "unauthorized" // unsigned, forged, stale, or the body did not come
	malformed    result = "malformed"    // unreadable, in the dead-letter topic
	tooLarge     result = "too_large"
	unavailable  result = "unavailable" // Kafka did not take it in time, or too much waits for it
)

type metrics struct {
	webhooks map[result]prometheus.Counter
	publish  prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	webhooks := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "mailtally_webhooks_total",
		Help: "Webhooks answered, by result: accepted, ignored and malformed got a 2xx, unavailable is sent again by the provider.",
	}, []string{"provider", "result"})
	m := &metrics{
		webhooks: make(map[result]prometheus.Counter),
		publish: promauto.With(reg).NewHistogram(prometheus.HistogramOpts{
			Name:                           "mailtally_publish_duration_seconds",
			Help:                           "Time until all in-sync replicas had acknowledged a webhook's record.",
			Buckets:                        []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 160,
		}),
	}
	for _, r := range []result{accepted, ignored, unauthorized, malformed, tooLarge, unavailable} {
		m.webhooks[r] = webhooks.WithLabelValues(tracking.Resend, string(r))
	}
	return m
}
