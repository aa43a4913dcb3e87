package main

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/internal/faults"
)

// A producer whose Kafka is not there, or not set up, says so by itself, once for each
// reason, serves meanwhile, and says when it is there.
func TestProducer_SaysThatKafkaIsNotThere(t *testing.T) {
	t.Parallel()
	environ := system(t)
	broker := faults.NewProxy(t, environ["KAFKA_BROKERS"])
	broker.Away(true)
	p := start(t, with(environ, "KAFKA_BROKERS", broker.Addr()), "producer")
	p.line(p.stderr, `"level":"WARN","msg":"Kafka accepts no webhooks`)
	public, admin := p.addresses()
	if status, text := get(t, "http://"+admin+"/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d %s", status, text)
	}
	if status := post(t, public, "whsec_Zm9yZ2VkIGFuZCBsb25nIGVub3VnaA==", "1", []byte("{}")); status != http.StatusUnauthorized {
		t.Errorf("a forged webhook: %d", status)
	}
	broker.Away(false)
	p.line(p.stderr, `"level":"WARN","msg":"Kafka accepts no webhooks.*mailtally migrate creates it`)
	if m := start(t, environ, "migrate"); m.wait() != 0 {
		t.Fatal(m.stderr)
	}
	p.line(p.stderr, `"level":"INFO","msg":"Kafka accepts webhooks"`)
	email := uuid.New()
	if status := post(t, public, testSecret, email.String(), opened(email)); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	p.endsWell()
	var last any
	for _, line := range p.stderr.lines() {
		if !strings.HasPrefix(line["msg"].(string), "Kafka accepts no webhooks") {
			continue
		}
		if line["error"] == last {
			t.Errorf("two lines for one reason: %s", p.stderr)
		}
		last = line["error"]
	}
}

// One whose Kafka is there has nothing to say about it, and one that is stopped while it
// asks ends at once.
func TestProducer_AsksInSilence(t *testing.T) {
	t.Parallel()
	environ := migrated(t)
	p := start(t, environ, "producer")
	p.addresses()
	p.endsWell()
	if strings.Contains(p.stderr.String(), "Kafka accepts") {
		t.Error(p.stderr)
	}
	hanging, err := net.Listen("tcp", "127.0.0.1:0") // and nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	p = start(t, with(environ, "KAFKA_BROKERS", hanging.Addr().String()), "producer")
	p.line(p.stderr, "Kafka accepts no webhooks")
	p.endsWell()
}
