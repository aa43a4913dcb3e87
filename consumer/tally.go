package consumer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailtally/mailtally/tracking"
)

// tally is the collector of a window's counts. There is only one, so that every scrape
// adds up: consumed = applied + duplicate + dropped + refetched + in flight. A scrape
// reads separate counters one after the other, so their sum would be off while batches
// progress, and anyone watching the difference would see it jump.
type tally struct {
	window     *window
	maxRefused int
	created    time.Time

	consumed, applied, duplicate, dropped *prometheus.Desc
	refetched, inFlight                   *prometheus.Desc
	firstOpens, firstClicks               *prometheus.Desc
	droppingStopped                       *prometheus.Desc
}

func newTally(w *window, maxRefused int) *tally {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &tally{
		window:     w,
		maxRefused: maxRefused,
		created:    time.Now(),
		consumed: desc("mailtally_events_consumed_total",
			"Events taken from Kafka. In every scrape it is the sum of applied, duplicate, dropped, refetched and in flight, over all types; anything else is a bug in mailtally.", "type"),
		applied: desc("mailtally_events_applied_total",
			"Events counted in PostgreSQL for the first time.", "type"),
		duplicate: desc("mailtally_events_duplicate_total",
			"Events that PostgreSQL had already counted, so that they changed nothing: the provider or Kafka delivered them again.", "type"),
		dropped: desc("mailtally_events_dropped_total",
			"Events that cannot be counted, each in the dead-letter topic with its reason. An event that is consumed again counts again.", "type", "reason"),
		refetched: desc("mailtally_events_refetched_total",
			"Events that were neither applied nor dropped, and are fetched again, by this member or another: after an error, or because their partition moved."),
		inFlight: desc("mailtally_events_in_flight",
			"Events taken from Kafka that wait for PostgreSQL, or for Kafka to acknowledge their dead letters."),
		firstOpens: desc("mailtally_first_opens_total",
			"Emails opened for the first time. Over all members and restarts it is the number of rows with opened_at."),
		firstClicks: desc("mailtally_first_clicks_total",
			"Emails clicked for the first time. Over all members and restarts it is the number of rows with clicked_at."),
		droppingStopped: desc("mailtally_dropping_stopped",
			"1 while the member no longer drops events that PostgreSQL refuses, because it refused CONSUMER_MAX_REFUSED in a row and accepted none between. It ends when an event is applied."),
	}
}

// Describe implements [prometheus.Collector].
func (t *tally) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{t.consumed, t.applied, t.duplicate, t.dropped, t.refetched, t.inFlight, t.firstOpens, t.firstClicks, t.droppingStopped} {
		to <- desc
	}
}

// Collect implements [prometheus.Collector].
func (t *tally) Collect(to chan<- prometheus.Metric) {
	c, inFlight := t.window.scrape()
	count := func(desc *prometheus.Desc, n int, labels ...string) {
		to <- prometheus.MustNewConstMetricWithCreatedTimestamp(desc, prometheus.CounterValue, float64(n), t.created, labels...)
	}
	for _, typ := range append(tracking.Types(), 0) { // 0: dropped before the type was known
		count(t.consumed, c.consumed[typ], typ.String())
		count(t.applied, c.applied[typ], typ.String())
		count(t.duplicate, c.duplicate[typ], typ.String())
		for _, reason := range tracking.Reasons() {
			count(t.dropped, c.dropped[drop{typ, reason}], typ.String(), string(reason))
		}
	}
	count(t.refetched, c.refetched)
	to <- prometheus.MustNewConstMetric(t.inFlight, prometheus.GaugeValue, float64(inFlight))
	count(t.firstOpens, c.firstOpens)
	count(t.firstClicks, c.firstClicks)
	stopped := 0.0
	if t.maxRefused > 0 && c.refusals >= t.maxRefused {
		stopped = 1
	}
	to <- prometheus.MustNewConstMetric(t.droppingStopped, prometheus.GaugeValue, stopped)
}
