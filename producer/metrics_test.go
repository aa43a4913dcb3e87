package producer

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/mailtally/mailtally/tracking/provider"
	"github.com/mailtally/mailtally/tracking/provider/resend"
)

func TestMetricsExistFromTheStart(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	counts := g.counts(resend.Name)
	for _, r := range []result{"accepted", "ignored", "unauthorized", "incomplete", "malformed", "too_large", "unavailable"} {
		if n, ok := counts[r]; !ok || n != 0 {
			t.Errorf("mailtally_webhooks_total{result=%q}: %d, %t", r, n, ok)
		}
	}
	if len(counts) != 7 {
		t.Errorf("results %v, want 7", counts)
	}
	if n := g.published(); n != 0 {
		t.Errorf("%d publications observed", n)
	}

	families, err := g.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	families = slices.DeleteFunc(families, func(family *dto.MetricFamily) bool {
		return strings.HasPrefix(family.GetName(), "mailtally_kafka_") // kgo's
	})
	if len(families) != 2 {
		t.Errorf("%d metrics of ours", len(families))
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// Each webhook is counted once, under its own result.
func TestMetricsCountEachResult(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	steps := []struct {
		result    result
		status    int
		hook      sentWebhook
		published int // in all, after it
	}{
		{accepted, http.StatusOK, sentWebhook{}, 1},
		{ignored, http.StatusOK, sentWebhook{body: contactCreated}, 1},
		{unauthorized, http.StatusUnauthorized, sentWebhook{secret: otherSecret}, 1},
		{malformed, http.StatusOK, sentWebhook{body: []byte("[]")}, 2},
		{tooLarge, http.StatusRequestEntityTooLarge, sentWebhook{body: bodyOfSize(provider.MaxValue + 1)}, 2},
	}
	want := make(map[result]int)
	for _, step := range steps {
		g.want(step.status, step.hook)
		want[step.result]++
		g.wantCounts(want)
		if n := g.published(); n != step.published {
			t.Errorf("%d publications observed after %s, want %d", n, step.result, step.published)
		}
	}

	g.producer.held.limit = 0 // no room: unavailable
	g.want(http.StatusServiceUnavailable, sentWebhook{})
	want[unavailable]++
	g.wantCounts(want)

	for _, method := range []string{http.MethodGet, http.MethodPut} { // these are not webhooks
		r := sentWebhook{}.request(t, g.addr)
		r.Method = method
		g.do(r)
	}
	g.wantCounts(want)
}

// Whatever is sent, no new series appear: the label sets are closed.
func TestHostileInputMakesNoSeries(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	g.want(http.StatusOK, sentWebhook{})
	g.want(http.StatusOK, sentWebhook{body: []byte("{}")})
	before := series(t, g.registry)
	handler := g.producer.Handler()
	for i := range 10_000 {
		body := fmt.Appendf(nil, `{"type": "email.PrivateType%d", "data": {"email_id": "%d"}}`, i, i)
		if i%100 == 0 { // a few get as far as the dead-letter topic
			body = fmt.Appendf(nil, `{"type": "email.sent", "data": {"email_id": "PrivateID%d"}}`, i)
		}
		hook := sentWebhook{id: fmt.Sprintf("msg_%d", i), body: body}
		if i%3 == 0 {
			hook.signature = fmt.Sprintf("v%d,%d", i, i)
		}
		serve(t, handler, hook)

		r := sentWebhook{}.request(t, g.addr)
		if i%2 == 0 {
			r.Method = fmt.Sprintf("PRIVATE%d", i)
		} else {
			r.URL.Path = fmt.Sprintf("/webhooks/private%d", i)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusMethodNotAllowed && w.Code != http.StatusNotFound {
			t.Fatalf("%s %s: answered %d", r.Method, r.URL.Path, w.Code)
		}
	}
	if after := series(t, g.registry); after != before {
		t.Errorf("%d series, before it were %d", after, before)
	}
	if n := g.counts(resend.Name); n[accepted] != 1 || n[unavailable] != 0 || n[malformed] != 67 || n[ignored]+n[malformed]+n[unauthorized] != 10_001 {
		t.Errorf("counted %v", n)
	}
}

// The histogram holds how long Kafka took. It has the bounds that alerts use, and
// native buckets beside the classic ones.
func TestPublishDuration(t *testing.T) {
	g := newGateway(t, gatewayOptions{publishTimeout: deadline})
	kafka := holdProduce(t, g.broker)
	answered := make(chan struct{})
	sent := time.Now()
	go func() {
		defer close(answered)
		g.want(http.StatusOK, sentWebhook{})
	}()
	wait(t, "a produce request", kafka.arrived, 1)
	arrived := time.Now()
	<-time.After(50 * time.Millisecond) // how long Kafka takes
	least := time.Since(arrived).Seconds()
	kafka.release()
	wait(t, "the answer", answered, 1)
	most := time.Since(sent).Seconds()

	h := gather(t, g.registry, "mailtally_publish_duration_seconds").GetMetric()[0].GetHistogram()
	if h.GetSampleCount() != 1 || h.GetSampleSum() < least || h.GetSampleSum() > most {
		t.Errorf("%d publications in %v s, want one in %v to %v", h.GetSampleCount(), h.GetSampleSum(), least, most)
	}
	var bounds []float64
	for _, b := range h.GetBucket() {
		bounds = append(bounds, b.GetUpperBound())
	}
	for _, bound := range []float64{.001, .1, 1} {
		if !slices.Contains(bounds, bound) {
			t.Errorf("no bound %v: %v", bound, bounds)
		}
	}
	if h.GetSchema() != 3 || len(h.GetPositiveSpan()) == 0 {
		t.Errorf("no native buckets: schema %d", h.GetSchema())
	}
}

// Two producers in one process, as in tests.
func TestTwoProducers(t *testing.T) {
	one, other := newGateway(t, gatewayOptions{}), newGateway(t, gatewayOptions{secrets: []string{otherSecret}})
	one.want(http.StatusOK, sentWebhook{})
	other.want(http.StatusUnauthorized, sentWebhook{})
	one.wantCounts(map[result]int{accepted: 1})
	other.wantCounts(map[result]int{unauthorized: 1})
}

// published is the number of observations of the publish duration.
func (g *gateway) published() int {
	return int(gather(g.t, g.registry, "mailtally_publish_duration_seconds").GetMetric()[0].GetHistogram().GetSampleCount())
}

func gather(t testing.TB, registry *prometheus.Registry, name string) *dto.MetricFamily {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family
		}
	}
	t.Fatalf("no metric %s", name)
	return nil
}

func series(t testing.TB, registry *prometheus.Registry) int {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, family := range families {
		// kgo's metrics have a series for each topic, and appear when its hooks have
		// run.
		if !strings.HasPrefix(family.GetName(), "mailtally_kafka_") {
			n += len(family.GetMetric())
		}
	}
	return n
}
