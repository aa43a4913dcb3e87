package producer

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

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
