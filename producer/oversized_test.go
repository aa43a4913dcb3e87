package producer

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking/provider"
)

// limit sets how much a topic accepts.
func (g *gateway) limit(topic string, maxMessageBytes string) {
	g.t.Helper()
	client := newKafkaClient(g.t, g.broker.Addr())
	defer client.Close()
	if _, err := kadm.NewClient(client).AlterTopicConfigs(g.t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &maxMessageBytes}}, topic); err != nil {
		g.t.Fatal(err)
	}
}

// incompressible is text of n bytes.
func incompressible(n int) string {
	raw := make([]byte, n)
	if _, err := rand.Read(raw); err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(raw)[:n]
}

func headerOf(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// A webhook that is too large for its topic is a dead letter, and answered for good. Those
// that shared its batch are stored.
func TestOversized_IsADeadLetter(t *testing.T) {
	g := newGateway(t, gatewayOptions{others: []provider.Endpoint{batches{}}})
	g.limit(topic, "20000")
	const small = 50
	events := []string{`"proof"`}
	for n := range small {
		events = append(events, fmt.Sprintf(`"opened %d@example.com"`, n))
	}
	large := `"opened ` + incompressible(60_000) + `"`
	events = append(events, large, "7") // the last one is a dead letter in any case
	if a := g.postBatch("[" + strings.Join(events, ",") + "]"); a.status != http.StatusOK {
		t.Errorf("answered %d %q", a.status, a.text)
	}
	g.wantCountsOf("batches", map[result]int{accepted: small, malformed: 2})
	g.wantRecords(small, 2)
	found := false
	for _, r := range g.records(deadLetterTopic) {
		if headerOf(r, "reason") == "too_large" {
			found = true
			if string(r.Value) != large || len(r.Key) == 0 || headerOf(r, "provider") != "batches" || headerOf(r, "received-at") == "" {
				t.Errorf("the letter is not whole: %v", r.Headers)
			}
		}
	}
	if !found {
		t.Error("no letter has reason too_large")
	}
}

// Many webhooks at once, from requests of their own, some too large: each gets its answer.
func TestOversized_BesideOthers(t *testing.T) {
	g := newGateway(t, gatewayOptions{publishTimeout: deadline})
	g.limit(topic, "20000")
	kafka := holdProduce(t, g.broker) // until all are buffered
	const each = 20
	answered := make(chan bool)
	for n := range each {
		for _, more := range []string{"", incompressible(60_000)} {
			go func() {
				body := bytes.Replace(clicked, []byte("{"), fmt.Appendf(nil, `{"n":"%d%s",`, n, more), 1)
				g.want(http.StatusOK, sentWebhook{id: fmt.Sprint("msg_", n, len(more)), body: body})
				answered <- true
			}()
		}
	}
	wait(t, "a webhook", g.started, 2*each)
	wait(t, "a produce request", kafka.arrived, 1)
	kafka.release()
	wait(t, "an answer", answered, 2*each)
	g.wantCounts(map[result]int{accepted: each, malformed: each})
	g.wantRecords(each, each)
}

// One that not even the dead-letter topic accepts whole is not answered 200.
func TestOversized_NotEvenAsADeadLetter(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	g.limit(topic, "20000")
	g.limit(deadLetterTopic, "20000")
	g.want(http.StatusRequestEntityTooLarge, sentWebhook{body: bytes.Replace(clicked, []byte("{"), []byte(`{"n":"`+incompressible(60_000)+`",`), 1)})
	g.want(http.StatusRequestEntityTooLarge, sentWebhook{body: []byte(incompressible(60_000))}) // unreadable
	g.wantCounts(map[result]int{tooLarge: 2})
	g.wantRecords(0, 0)
}
