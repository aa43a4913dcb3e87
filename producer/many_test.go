package producer

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider"
)

// batches is a provider unlike the real ones: it sends arrays, proves them inside the
// body, pings, has ids that are not UUIDs, and misinterprets a 401.
type batches struct{}

func (batches) Name() string { return "batches" }
func (batches) Limit() int64 { return 1 << 20 }

func (batches) Admit(h http.Header, _ time.Time) error {
	if h.Get("X-Batches") == "" {
		return &provider.Refusal{Status: http.StatusNotAcceptable, Text: "no X-Batches"}
	}
	return nil
}

func (batches) Open(_ context.Context, r provider.Request) (iter.Seq[provider.Webhook], error) {
	switch {
	case strings.Contains(string(r.Body), "away"):
		return nil, &provider.Refusal{Status: http.StatusBadGateway, Text: "the certificate cannot be fetched", Cause: errors.New("it is away")}
	case !strings.Contains(string(r.Body), "proof"):
		return nil, &provider.Refusal{Status: http.StatusNotAcceptable, Text: "no proof"}
	}
	return func(yield func(provider.Webhook) bool) {
		for element, err := range provider.Elements(r.Body) {
			hook := provider.Webhook{Value: element}
			id, tracked := strings.CutPrefix(strings.Trim(string(element), `"`), "opened ")
			switch {
			case errors.As(err, &hook.Drop):
			case strings.Contains(string(element), "proof"):
				continue
			case !strings.HasPrefix(string(element), `"`):
				hook.Drop = &tracking.DropError{Reason: tracking.NoType, Detail: "no string"}
			case !tracked:
				hook.Drop = &tracking.DropError{Reason: tracking.Untracked}
			default:
				hook.EmailID, _ = tracking.EmailID("batches", id)
			}
			if !yield(hook) {
				return
			}
		}
	}, nil
}

func (g *gateway) postBatch(body string) answer {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, "http://"+g.addr+"/webhooks/batches", strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("X-Batches", "1")
	return g.do(r)
}

// Each event of a request is a record of its own, under its own key and byte for byte.
// One that cannot be read is a dead letter and fails none of the others. Each is
// counted by its own result.
func TestManyEventsInARequest(t *testing.T) {
	g := newGateway(t, gatewayOptions{others: []provider.Endpoint{batches{}}})
	a := g.postBatch("[ \"proof\",\r\n \"opened one@example.com\", 7, \"opened " + emailID + "\" ,\"unsubscribed\",{\"a\" : 1},\"opened one@example.com\", {\"cut")
	if a.status != http.StatusOK || a.text != "" {
		t.Errorf("answered %d %q", a.status, a.text)
	}
	one, _ := tracking.EmailID("batches", "one@example.com")
	if one.Version() != 8 || one.Variant() != uuid.RFC4122 {
		t.Errorf("the derived id %v is of version %d, %v", one, one.Version(), one.Variant())
	}
	var got, letters []string
	for _, r := range g.records(topic) {
		got = append(got, string(r.Key)+" "+string(r.Value)+" "+header(r, "provider"))
	}
	for _, r := range g.records(deadLetterTopic) {
		letters = append(letters, string(r.Value)+" "+header(r, "reason")+" "+header(r, "provider"))
	}
	slices.Sort(got)
	slices.Sort(letters)
	want := []string{one.String() + ` "opened one@example.com" batches`, one.String() + ` "opened one@example.com" batches`, emailID + ` "opened ` + emailID + `" batches`}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("records %q, want %q", got, want)
	}
	if want := []string{`7 no_type batches`, `{"a" : 1} no_type batches`, `{"cut not_json batches`}; !slices.Equal(letters, want) {
		t.Errorf("dead letters %q, want %q", letters, want)
	}
	g.wantCountsOf("batches", map[result]int{accepted: 3, malformed: 3, ignored: 1})
	g.wantCounts(nil)
}

// A request without events is answered 200, and counted as ignored.
func TestNoEventInARequest(t *testing.T) {
	g := newGateway(t, gatewayOptions{others: []provider.Endpoint{batches{}}})
	for _, body := range []string{`["proof"]`, `["proof","unsubscribed"]`} {
		if a := g.postBatch(body); a.status != http.StatusOK {
			t.Errorf("%s: answered %d", body, a.status)
		}
	}
	g.wantRecords(0, 0)
	g.wantCountsOf("batches", map[result]int{ignored: 2})
}

// A refusal has the status that the provider asks for.
func TestRefusedAsTheProviderAsks(t *testing.T) {
	g := newGateway(t, gatewayOptions{others: []provider.Endpoint{batches{}}})
	for body, want := range map[string]int{`["opened 1"]`: http.StatusNotAcceptable, `["away"]`: http.StatusBadGateway} {
		if a := g.postBatch(body); a.status != want {
			t.Errorf("%s: answered %d, want %d", body, a.status, want)
		}
	}
	r := sentWebhook{}.request(t, g.addr)
	r.URL.Path = "/webhooks/batches"
	if a := g.do(r); a.status != http.StatusNotAcceptable {
		t.Errorf("not admitted: answered %d", a.status)
	}
	g.wantRecords(0, 0)
	g.wantCountsOf("batches", map[result]int{unauthorized: 2, unavailable: 1})
}

// A request is answered only when Kafka has acknowledged all its records: if one is
// refused, the provider sends all of them again.
func TestManyEventsAreAcknowledgedTogether(t *testing.T) {
	g := newGateway(t, gatewayOptions{publishTimeout: deadline, others: []provider.Endpoint{batches{}}})
	kafka := holdProduce(t, g.broker)
	answers := make(chan answer, 1)
	go func() { answers <- g.postBatch(`["proof","opened 1","opened 2","opened 3",5]`) }()
	wait(t, "started", g.started, 1)
	wait(t, "arrived at Kafka", kafka.arrived, 1)
	select {
	case a := <-answers:
		t.Errorf("answered %d before Kafka had anything", a.status)
	default:
	}
	kafka.release()
	if a := wait(t, "an answer", answers, 1); a.status != http.StatusOK {
		t.Errorf("answered %d", a.status)
	}
	g.wantRecords(3, 1)

	g.broker.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: deadLetterTopic, Err: kerr.TopicAuthorizationFailed})
	if a := g.postBatch(`["proof","opened 1",5]`); a.status != http.StatusServiceUnavailable {
		t.Errorf("answered %d though one was not stored", a.status)
	}
	g.wantCountsOf("batches", map[result]int{accepted: 3, malformed: 1, unavailable: 2})
}

// A request with very many events takes no more memory than any other.
func TestManyEventsAreBounded(t *testing.T) {
	g := newGateway(t, gatewayOptions{others: []provider.Endpoint{batches{}}})
	g.producer.held.limit = 1 << 20
	body := `["proof"` + strings.Repeat(`,1`, 100_000) + `]`
	if a := g.postBatch(body); a.status != http.StatusServiceUnavailable {
		t.Errorf("answered %d", a.status)
	}
	g.wantRecords(0, 0)
}
