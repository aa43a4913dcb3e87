package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// contract lists the metrics that others build on: kind and label names.
var contract = map[string]map[string]string{
	"producer": {
		"mailtally_webhooks_total":           "COUNTER provider result",
		"mailtally_publish_duration_seconds": "HISTOGRAM",
	},
	"consumer": {
		"mailtally_events_consumed_total":  "COUNTER type",
		"mailtally_events_applied_total":   "COUNTER type",
		"mailtally_events_duplicate_total": "COUNTER type",
		"mailtally_events_dropped_total":   "COUNTER reason type",
		"mailtally_events_refetched_total": "COUNTER",
		"mailtally_events_in_flight":       "GAUGE",
		"mailtally_first_opens_total":      "COUNTER",
		"mailtally_first_clicks_total":     "COUNTER",
		"mailtally_records_lost_total":     "COUNTER",
		"mailtally_dropping_stopped":       "GAUGE",
		"mailtally_apply_duration_seconds": "HISTOGRAM",
		"mailtally_apply_batch_events":     "HISTOGRAM",
		"mailtally_apply_retries_total":    "COUNTER reason",
		"mailtally_event_delay_seconds":    "HISTOGRAM",
		"mailtally_partitions_owned":       "GAUGE",
	},
}

func describeMetric(family *dto.MetricFamily, without ...string) string {
	words := []string{family.GetType().String()}
	for _, l := range family.GetMetric()[0].GetLabel() {
		if !slices.Contains(without, l.GetName()) {
			words = append(words, l.GetName())
		}
	}
	return strings.Join(words, " ")
}

// Each role's first scrape has all metrics of the contract, with labels and help; so
// has a later one, once there is a lag.
func TestMetrics_Contract(t *testing.T) {
	t.Parallel()
	environ := migrated(t)
	for role, want := range contract {
		_, admin := start(t, environ, role).addresses()
		families := metrics(t, admin)
		for name, kind := range want {
			family := families[name]
			if family == nil {
				t.Errorf("%s: the first scrape lacks %s", role, name)
				continue
			}
			if got := describeMetric(family); got != kind || len(family.GetHelp()) < 20 {
				t.Errorf("%s: %s is a %s, %q", role, name, got, family.GetHelp())
			}
		}
		if role == "consumer" {
			eventually(t, func() error { return same("lags", len(metrics(t, admin)["mailtally_consumer_lag"].GetMetric()), 12) })
			for _, name := range []string{"mailtally_consumer_lag", "mailtally_consumer_lag_seconds"} {
				if got := describeMetric(metrics(t, admin)[name]); got != "GAUGE partition topic" {
					t.Errorf("%s is a %s", name, got)
				}
			}
		}
	}
}

// A Prometheus that asks for native histograms gets them, along with the classic
// buckets.
func TestMetrics_NativeHistograms(t *testing.T) {
	t.Parallel()
	_, admin := start(t, migrated(t), "consumer").addresses()
	format := expfmt.NewFormat(expfmt.TypeProtoDelim)
	header := http.Header{"Accept": {string(format)}}
	status, body := request(t, http.MethodGet, "http://"+admin+"/metrics", header, nil)
	if status != http.StatusOK {
		t.Fatalf("answered %d", status)
	}
	decoder := expfmt.NewDecoder(strings.NewReader(body), format)
	found := 0
	for {
		var family dto.MetricFamily
		if decoder.Decode(&family) != nil {
			break
		}
		if contract["consumer"][family.GetName()] == "HISTOGRAM" {
			found++
			if h := family.GetMetric()[0].GetHistogram(); h.Schema == nil || h.GetSchema() != 3 || len(h.GetBucket()) == 0 {
				t.Errorf("%s: schema %d and %d classic buckets", family.GetName(), h.GetSchema(), len(h.GetBucket()))
			}
		}
	}
	if found != 3 {
		t.Errorf("%d histograms, want 3", found)
	}
}

// In mailtally dev each member has all of the consumer's series under its own label,
// and each member's add up in every scrape while traffic runs.
func TestMetrics_DevMembers(t *testing.T) {
	t.Parallel()
	p := start(t, freePorts, "dev", "-rate", "500")
	admin := joinIn(p)["ADMIN_ADDR"]
	families := metrics(t, admin)
	for name, kind := range contract["consumer"] {
		series := make(map[string]int)
		for _, m := range families[name].GetMetric() {
			series[labelOf(m, "member")]++
		}
		if len(series) != devMembers || series["1"] == 0 || series["1"] != series["2"] {
			t.Errorf("series of %s by member: %v", name, series)
		} else if got := describeMetric(families[name], "member"); got != kind {
			t.Errorf("%s is a %s", name, got)
		}
	}
	moved := make(map[string]map[float64]bool)
	eventually(t, func() error {
		families := metrics(t, admin)
		for _, member := range []string{"1", "2"} {
			n := func(what string) float64 { return total(families, "mailtally_events_"+what, "member", member) }
			if moved[member] == nil {
				moved[member] = make(map[float64]bool)
			}
			done := n("applied_total") + n("duplicate_total") + n("dropped_total")
			moved[member][done] = true
			if refetched, inFlight := n("refetched_total"), n("in_flight"); n("consumed_total") != done+refetched+inFlight {
				t.Errorf("member %s: consumed %v is not done %v + refetched %v + in flight %v", member, n("consumed_total"), done, refetched, inFlight)
			}
		}
		if len(moved["1"]) < 20 || len(moved["2"]) < 20 {
			return fmt.Errorf("too few scrapes while the numbers moved: %d and %d", len(moved["1"]), len(moved["2"]))
		}
		return nil
	})
	p.line(p.stdout, status)
	p.endsWell()
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// Whatever strangers or the provider send, no series is added to either role's own
// metrics, the pool's or Go's, and none of it becomes a label in any metric, the Kafka
// client's included.
func TestMetrics_HostileRequestsMakeNoSeries(t *testing.T) {
	t.Parallel()
	environ := migrated(t)
	public, gateway := start(t, environ, "producer").addresses()
	_, member := start(t, environ, "consumer").addresses()
	series := func() string {
		var counts []string
		for role, admin := range map[string]string{"producer": gateway, "consumer": member} {
			for name, family := range metrics(t, admin) {
				// The Kafka client's series, by broker and topic, appear as those are
				// used, and a lag with Kafka's first answer. All others exist from the
				// start.
				if !strings.HasPrefix(name, "mailtally_kafka_") && !strings.HasPrefix(name, "mailtally_consumer_lag") {
					counts = append(counts, fmt.Sprint(role, " ", name, " ", len(family.GetMetric())))
				}
			}
		}
		slices.Sort(counts)
		return strings.Join(counts, "\n")
	}
	before := series()
	const hostile = 200
	for n := range hostile {
		evil := fmt.Sprintf("hostile%d", n)
		request(t, strings.ToUpper(evil), "http://"+public+"/webhooks/resend", http.Header{}, nil)
		request(t, http.MethodPost, "http://"+public+"/webhooks/"+evil+"?"+evil+"="+evil, http.Header{"Svix-Id": {evil}}, nil)
		post(t, public, testSecret, evil, fmt.Appendf(nil, `{"type":"email.%s","data":{"email_id":%q}}`, evil, evil))
		post(t, public, testSecret, evil, fmt.Appendf(nil, `{"type":"email.opened","created_at":%q,"data":{"email_id":%q}}`, evil, uuid.New()))
		post(t, public, testSecret, evil, opened(uuid.New()))
	}
	eventually(t, func() error {
		return same("consumed", total(metrics(t, member), "mailtally_events_consumed_total"), 2*hostile)
	})
	if after := series(); after != before {
		t.Errorf("series before\n%s\nand after\n%s", before, after)
	}
	for _, admin := range []string{gateway, member} {
		if _, text := get(t, "http://"+admin+"/metrics"); strings.Contains(strings.ToLower(text), "hostile") {
			t.Errorf("/metrics of %s repeats what was sent", admin)
		}
	}
	if n := total(metrics(t, gateway), "mailtally_webhooks_total"); n != 3*hostile {
		t.Errorf("%v webhooks counted, want %d: other paths and methods do not count", n, 3*hostile)
	}
}
