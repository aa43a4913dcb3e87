package producer

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/mailtally/mailtally/tracking/provider"
	"github.com/mailtally/mailtally/tracking/provider/resend"
)

// BenchmarkHandler measures a webhook's cost in this package, without net/http and
// Kafka: reading its body, checking its signature and making its record.
func BenchmarkHandler(b *testing.B) {
	g := newGateway(b, gatewayOptions{})
	// A secret being rotated: the right one is tried last.
	for name, secrets := range map[string][]string{"one secret": {testSecret}, "two secrets": {otherSecret, testSecret}} {
		b.Run(name, func(b *testing.B) {
			gate := &gate{g.producer, endpoint(b, secrets...), g.producer.metrics.webhooks[resend.Name]}
			body := bytes.NewReader(clicked)
			r := sentWebhook{}.request(b, "test")
			r.Body = io.NopCloser(body)
			w := httptest.NewRecorder()
			b.SetBytes(int64(len(clicked)))
			b.ReportAllocs()
			for b.Loop() {
				body.Reset(clicked)
				room := share{of: &g.producer.held}
				content, refusal := gate.receive(w, r, &room)
				if refusal != nil || len(content.records) != 1 {
					b.Fatal(refusal)
				}
				room.giveBack()
			}
		})
	}
}

// BenchmarkWebhook measures all of it, over HTTP and into the embedded broker.
func BenchmarkWebhook(b *testing.B) {
	g := newGateway(b, gatewayOptions{})
	b.SetParallelism(16)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			g.want(http.StatusOK, sentWebhook{})
		}
	})
}

// BenchmarkWebhookBesideHalfSent measures the time to the answer, one webhook at a time,
// beside strangers who send a part of a body and wait. They hold as much as they may.
func BenchmarkWebhookBesideHalfSent(b *testing.B) {
	for _, strangers := range []int{0, 100, 1000, 8000} {
		b.Run(fmt.Sprintf("%d", strangers), func(b *testing.B) {
			g := newGateway(b, gatewayOptions{})
			for i := range strangers {
				part := make([]byte, 131_082)
				if i%10 != 0 {
					part = part[:3_000]
				}
				g.halfSend(fmt.Sprintf("Content-Length: %d\r\n", provider.MaxValue), part)
			}
			wait(b, "started", g.started, strangers)
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				g.want(http.StatusOK, sentWebhook{})
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
		})
	}
}
