package deploy

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// numbers are what a scrape says, by the names that the page has for it. They are
// read here by Prometheus' own parser.
type numbers struct {
	counts  map[string]float64
	buckets map[string]map[float64]float64
	lags    map[string]float64
}

func readNumbers(t *testing.T, text string) numbers {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	n := numbers{make(map[string]float64), make(map[string]map[float64]float64), make(map[string]float64)}
	each := func(family string, count func(label func(string) string, value float64)) {
		for _, m := range families[family].GetMetric() {
			count(func(name string) string {
				i := slices.IndexFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == name })
				if i < 0 {
					return ""
				}
				return m.Label[i].GetValue()
			}, m.GetCounter().GetValue()+m.GetGauge().GetValue())
		}
	}
	each("mailtally_webhooks_total", func(label func(string) string, v float64) {
		n.counts["received"] += v
		n.counts[label("result")] += v
		switch label("result") {
		case "unauthorized", "too_large", "unavailable":
			n.counts["refused"] += v
		case "malformed":
			n.counts["deadletters"] += v
		}
	})
	for _, what := range []string{"consumed", "applied", "duplicate", "dropped"} {
		each("mailtally_events_"+what+"_total", func(label func(string) string, v float64) {
			n.counts[what] += v
			n.counts[what+"."+label("type")] += v
			if reason := label("reason"); reason != "" {
				n.counts["deadletters"] += v
				n.counts["dropped.for."+reason] += v
				if label("type") == "clicked" {
					n.counts["dropped.clicked.for."+reason] += v
				}
			}
		})
	}
	for name, metric := range map[string]string{
		"firstopens": "mailtally_first_opens_total", "firstclicks": "mailtally_first_clicks_total", "lost": "mailtally_records_lost_total",
	} {
		each(metric, func(_ func(string) string, v float64) { n.counts[name] += v })
	}
	each("mailtally_apply_retries_total", func(label func(string) string, v float64) {
		n.counts["retries"] += v
		n.counts["retries.for."+label("reason")] += v
	})
	n.counts["lag"] = math.NaN() // not known, which is not 0
	each("mailtally_consumer_lag", func(label func(string) string, v float64) {
		if len(n.lags) == 0 {
			n.counts["lag"] = 0
		}
		n.counts["lag"] += v
		name := label("partition")
		if member := label("member"); member != "" {
			name += " · member " + member
		}
		n.lags[name] = v
	})
	for name, metric := range map[string]string{
		"delay": "mailtally_event_delay_seconds", "publish": "mailtally_publish_duration_seconds",
		"apply": "mailtally_apply_duration_seconds", "batch": "mailtally_apply_batch_events",
	} {
		n.buckets[name] = make(map[float64]float64)
		for _, m := range families[metric].GetMetric() {
			for _, bucket := range m.GetHistogram().GetBucket() {
				n.buckets[name][bucket.GetUpperBound()] += float64(bucket.GetCumulativeCount())
			}
		}
	}
	return n
}

// differs is an error where the page shows other counts than the scrape has.
func (n numbers) differs(s shown) error {
	for _, item := range s.Numbers {
		value, known := n.counts[item.Name]
		want := commas(value)
		switch {
		case item.As == "share":
			part, all, _ := strings.Cut(item.Name, "/")
			want = share(n.counts[part], n.counts[all])
		case item.As != "count":
			continue
		case !known:
			return fmt.Errorf("the page has a number %q", item.Name)
		}
		if item.Text != want {
			return fmt.Errorf("%s is shown as %s, and is %s", item.Name, item.Text, want)
		}
	}
	if len(s.Lags) != len(n.lags) {
		return fmt.Errorf("the page has the lag of %d partitions, want %d", len(s.Lags), len(n.lags))
	}
	for _, lag := range s.Lags {
		if want, known := n.lags[lag[0]]; !known || lag[1] != commas(want) {
			return fmt.Errorf("the lag of %s is shown as %s, want %v (%t)", lag[0], lag[1], want, known)
		}
	}
	return nil
}

// rate is how the increase of a count a second is written.
func rate(increase, seconds float64) string {
	n := increase / seconds
	switch {
	case n >= 99.95:
		return commas(n)
	case n >= 9.995:
		return fixed(n, 1)
	case n == 0:
		return "0"
	default:
		return fixed(n, 2)
	}
}

// quantile is what Prometheus' histogram_quantile makes of the buckets' increase.
// It is NaN where nothing was observed.
func quantile(histogram string, q float64, from, to numbers) float64 {
	var bounds []float64
	for bound := range to.buckets[histogram] {
		bounds = append(bounds, bound)
	}
	slices.Sort(bounds)
	if len(bounds) == 0 {
		return math.NaN()
	}
	increase := func(i int) float64 { return to.buckets[histogram][bounds[i]] - from.buckets[histogram][bounds[i]] }
	all := increase(len(bounds) - 1)
	if all == 0 {
		return math.NaN()
	}
	lower, below := 0.0, 0.0
	for i, bound := range bounds {
		if n := increase(i); n >= q*all {
			if math.IsInf(bound, 1) {
				return lower
			}
			return lower + (bound-lower)*(q*all-below)/(n-below)
		}
		lower, below = bound, increase(i)
	}
	return lower
}

// fixed is a number with so many decimals, rounded as JavaScript does: halves up.
func fixed(n float64, decimals int) string {
	return new(big.Rat).SetFloat64(n).FloatString(decimals)
}

func commas(n float64) string {
	if math.IsNaN(n) {
		return "–"
	}
	digits := fixed(n, 0)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func seconds(s float64) string {
	switch {
	case math.IsNaN(s):
		return "–"
	case s < 0.00995:
		return fixed(s*1000, 1) + " ms"
	case s < 0.9995:
		return fixed(s*1000, 0) + " ms"
	default:
		return fixed(s, 1) + " s"
	}
}

func share(part, all float64) string {
	percent := 100 * part / all
	switch {
	case all == 0:
		return "–"
	case part == 0:
		return "0 %"
	case part == all:
		return "100 %"
	case percent < 0.1:
		return "< 0.1 %"
	case percent > 99.9:
		return "> 99.9 %"
	default:
		return fixed(percent, 1) + " %"
	}
}
