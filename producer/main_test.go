package producer

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"
	"github.com/twmb/franz-go/plugin/kslog"
	"go.uber.org/goleak"

	"github.com/mailtally/mailtally/internal/localkafka"
	"github.com/mailtally/mailtally/tracking/provider"
	"github.com/mailtally/mailtally/tracking/provider/resend"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	topic           = "email-events"
	deadLetterTopic = "email-events.dead-letter"

	// deadline bounds the tests' waits. Only what hangs takes that long.
	deadline = 30 * time.Second
)

// gateway is a producer behind a running server, in front of a real broker.
type gateway struct {
	t        testing.TB
	broker   *localkafka.Broker
	producer *Producer
	server   *http.Server
	addr     string
	client   *http.Client
	registry *prometheus.Registry
	started  chan struct{} // receives when the handler is called
	handled  chan struct{} // receives when the handler has returned
}

// gatewayOptions configure a gateway; the zero value works.
type gatewayOptions struct {
	seed           string // Kafka's address; if empty, a new broker's with both topics
	secrets        []string
	publishTimeout time.Duration
	readTimeout    time.Duration
	now            func() time.Time
	others         []provider.Endpoint // beside Resend's
}

// newGateway starts a gateway. At the test's end it is stopped, no memory may still be
// reserved, and its log, at the finest level and kgo's too, must contain no secret and
// nothing of a body.
func newGateway(t testing.TB, o gatewayOptions) *gateway {
	t.Helper()
	logged := &logBuffer{}
	log := slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g := &gateway{
		t:        t,
		client:   &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}, Timeout: deadline},
		registry: prometheus.NewPedanticRegistry(),
		started:  make(chan struct{}, 1<<20), // of empty structs, so that it costs nothing
		handled:  make(chan struct{}, 1<<20),
	}
	if o.seed == "" {
		g.broker = newBroker(t, t.TempDir())
		o.seed = g.broker.Addr()
		createTopics(t, o.seed)
	}
	if o.secrets == nil {
		o.secrets = []string{testSecret}
	}
	var err error
	g.producer, err = New(Options{
		Kafka: []kgo.Opt{
			kgo.SeedBrokers(o.seed),
			kgo.WithLogger(kslog.New(log)),
			kgo.WithHooks(kprom.NewMetrics("mailtally_kafka", kprom.Registerer(g.registry))),
			// Tests don't wait the seconds that kgo would take to look again.
			kgo.MetadataMinAge(50 * time.Millisecond),
			kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		},
		Alone:           []kgo.Opt{kgo.SeedBrokers(o.seed), kgo.MetadataMinAge(50 * time.Millisecond)},
		Topic:           topic,
		DeadLetterTopic: deadLetterTopic,
		Endpoints:       append([]provider.Endpoint{endpoint(t, o.secrets...)}, o.others...),
		Registerer:      g.registry,
		Logger:          log,
		PublishTimeout:  o.publishTimeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.now != nil {
		g.producer.now = o.now
	}
	g.serve(o, log)
	t.Cleanup(func() {
		g.client.CloseIdleConnections()
		if err := g.server.Close(); err != nil {
			t.Error(err)
		}
		g.producer.Close()
		// Close does not wait for handlers that are about to return.
		deadline := time.Now().Add(10 * time.Second)
		held := func() int64 { return g.producer.held.bytes.Load() + g.producer.arriving.reserved() }
		for held() != 0 && time.Now().Before(deadline) {
			runtime.Gosched()
		}
		if held := held(); held != 0 {
			t.Errorf("%d bytes are held at the end", held)
		}
		logged.wantNone(t, append(private, o.secrets...))
	})
	return g
}

// serve runs the server until the test's end.
func (g *gateway) serve(o gatewayOptions, log *slog.Logger) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	g.addr = listener.Addr().String()
	handler := g.producer.Handler()
	g.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			g.started <- struct{}{}
			handler.ServeHTTP(w, r)
			g.handled <- struct{}{}
		}),
		ReadTimeout: o.readTimeout,
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelError),
	}
	var running sync.WaitGroup
	running.Go(func() { _ = g.server.Serve(listener) })
	g.t.Cleanup(running.Wait)
}

// wait receives n times from a channel.
func wait[T any](t testing.TB, what string, events <-chan T, n int) (last T) {
	t.Helper()
	timeout := time.After(deadline)
	for i := range n {
		select {
		case last = <-events:
		case <-timeout:
			t.Fatalf("%d of %d times, then no more: %s", i, n, what)
		}
	}
	return last
}

// logBuffer is safe for concurrent use.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) wantNone(t testing.TB, texts []string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range texts {
		if strings.Contains(b.text.String(), text) {
			t.Errorf("the log has %q", text)
		}
	}
}

// answer is the gateway's answer.
type answer struct {
	status int
	header http.Header
	text   string
}

// do sends a request.
func (g *gateway) do(r *http.Request) answer {
	g.t.Helper()
	response, err := g.client.Do(r)
	if err != nil {
		g.t.Error(err)
		return answer{}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Error(err)
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

// post sends a webhook.
func (g *gateway) post(hook sentWebhook) answer {
	g.t.Helper()
	return g.do(hook.request(g.t, g.addr))
}

// want fails the test unless the webhook gets this status, and a 503 has Retry-After.
func (g *gateway) want(status int, hook sentWebhook) {
	g.t.Helper()
	a := g.post(hook)
	if a.status != status {
		g.t.Errorf("answered %d %q, want %d", a.status, a.text, status)
	}
	if retry := a.header.Get("Retry-After"); (retry != "") != (a.status == http.StatusServiceUnavailable) {
		g.t.Errorf("answered %d with Retry-After %q", a.status, retry)
	}
}

// wantCounts fails the test unless exactly these results have been counted for Resend.
func (g *gateway) wantCounts(want map[result]int) {
	g.t.Helper()
	g.wantCountsOf(resend.Name, want)
}

func (g *gateway) wantCountsOf(provider string, want map[result]int) {
	g.t.Helper()
	for r, n := range g.counts(provider) {
		if n != want[r] {
			g.t.Errorf("%s counted %d times, want %d", r, n, want[r])
		}
	}
}

// counts reads a provider's mailtally_webhooks_total as Prometheus does.
func (g *gateway) counts(provider string) map[result]int {
	g.t.Helper()
	counts := make(map[result]int)
	for _, m := range gather(g.t, g.registry, "mailtally_webhooks_total").GetMetric() {
		labels := make(map[string]string)
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if len(labels) != 2 {
			g.t.Errorf("mailtally_webhooks_total has labels %v", labels)
		}
		if labels["provider"] == provider {
			counts[result(labels["result"])] = int(m.GetCounter().GetValue())
		}
	}
	return counts
}

// rawRequest is a POST's head, for tests that write to the connection.
func rawRequest(hook sentWebhook, more string) string {
	var head strings.Builder
	fmt.Fprintf(&head, "POST /webhooks/resend HTTP/1.1\r\nHost: test\r\n%s", more)
	_ = hook.header().Write(&head)
	head.WriteString("\r\n")
	return head.String()
}
