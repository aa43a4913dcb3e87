package consumer

import (
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailtally/mailtally/tracking"
)

// tally counts the events that are done with. It is a single collector, and each of
// its methods is a single step to it, so that every scrape adds up: consumed =
// applied + duplicate + dropped. As counters of their own, which a scrape reads one
// after the other, they would not while batches go on, and whoever watches the
// difference would see it jump.
type tally struct {
	consumed, applied, duplicate, dropped, firstOpens, firstClicks *prometheus.Desc
	created                                                        time.Time

	mu  sync.Mutex
	now counts
}

// counts are a tally's numbers. What is dropped has a key for each label set there
// can be.
type counts struct {
	consumed, applied, duplicate tracking.Counts
	dropped                      map[drop]int
	firstOpens, firstClicks      int
}

type drop struct {
	typ    tracking.Type
	reason tracking.Reason
}

// countedTypes are the types, and 0: what was dropped before its type was known.
func countedTypes() []tracking.Type { return append(tracking.Types(), 0) }

func newTally() *tally {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	t := &tally{
		consumed: desc("mailtally_events_consumed_total",
			"Events taken from Kafka and done with. In every scrape it is the sum of applied, duplicate and dropped; anything else is a fault of mailtally.", "type"),
		applied: desc("mailtally_events_applied_total",
			"Events counted in PostgreSQL for the first time.", "type"),
		duplicate: desc("mailtally_events_duplicate_total",
			"Events that PostgreSQL had counted already, and that changed nothing: the provider or Kafka delivered them again.", "type"),
		dropped: desc("mailtally_events_dropped_total",
			"Events that cannot be counted, each in the dead-letter topic with its reason. One whose batch is done again counts again.", "type", "reason"),
		firstOpens: desc("mailtally_first_opens_total",
			"Emails opened for the first time. Over all members and restarts it is the number of rows with opened_at."),
		firstClicks: desc("mailtally_first_clicks_total",
			"Emails clicked for the first time. Over all members and restarts it is the number of rows with clicked_at."),
		created: time.Now(),
		now:     counts{dropped: make(map[drop]int)},
	}
	for _, typ := range countedTypes() {
		for _, reason := range tracking.Reasons() {
			t.now.dropped[drop{typ, reason}] = 0
		}
	}
	return t
}

// countEvents counts events that were committed, and what became of them.
func (t *tally) countEvents(consumed tracking.Counts, result tracking.Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for typ, n := range consumed {
		t.now.consumed[typ] += n
		t.now.applied[typ] += result.Applied[typ]
		t.now.duplicate[typ] += result.Duplicate[typ]
	}
	t.now.firstOpens += result.FirstOpens
	t.now.firstClicks += result.FirstClicks
}

// countDropped counts a dead letter that was acknowledged.
func (t *tally) countDropped(why *tracking.DropError) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.consumed[why.Type]++
	t.now.dropped[drop{why.Type, why.Reason}]++
}

// snapshot is what the counts were at one moment.
func (t *tally) snapshot() counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.now
	c.dropped = maps.Clone(c.dropped)
	return c
}

// Describe implements [prometheus.Collector].
func (t *tally) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{t.consumed, t.applied, t.duplicate, t.dropped, t.firstOpens, t.firstClicks} {
		to <- desc
	}
}

// Collect implements [prometheus.Collector].
func (t *tally) Collect(to chan<- prometheus.Metric) {
	c := t.snapshot()
	emit := func(desc *prometheus.Desc, n int, labels ...string) {
		to <- prometheus.MustNewConstMetricWithCreatedTimestamp(desc, prometheus.CounterValue, float64(n), t.created, labels...)
	}
	for _, typ := range countedTypes() {
		emit(t.consumed, c.consumed[typ], typ.String())
		emit(t.applied, c.applied[typ], typ.String())
		emit(t.duplicate, c.duplicate[typ], typ.String())
	}
	for d, n := range c.dropped {
		emit(t.dropped, n, d.typ.String(), string(d.reason))
	}
	emit(t.firstOpens, c.firstOpens)
	emit(t.firstClicks, c.firstClicks)
}
