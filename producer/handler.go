package producer

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// Handler serves POST /webhooks/resend, and nothing else. The server it runs in
// bounds the headers (MaxHeaderBytes) and the time they and the body may take
// (ReadTimeout); its WriteTimeout is longer than that and the PublishTimeout
// together, or the provider never gets a late answer.
func (p *Producer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /webhooks/resend", p.serveResend)
	return mux
}

// serveResend answers a webhook:
//
//	204  its record is on all in-sync replicas; or it is of a type that is not
//	     tracked; or it cannot be read and is in the dead-letter topic, as the
//	     provider's sending it again would not mend it
//	401  it is not signed, not rightly, or not now
//	408  its body did not arrive
//	413  its body is larger than 256 KiB
//	503  Kafka has not acknowledged it in time, or too many wait for Kafka:
//	     send it again
func (p *Producer) serveResend(w http.ResponseWriter, r *http.Request) {
	result, refusal := p.receive(w, r)
	p.metrics.webhooks[result].Inc()
	if refusal == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if refusal.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	http.Error(w, refusal.text, refusal.status)
}

// refusal is an answer other than 2xx, and how it is counted. Its text is public.
type refusal struct {
	result result
	status int
	text   string
}

var (
	notSigned    = refusal{unauthorized, http.StatusUnauthorized, "no signature matches"}
	bodyTooLarge = refusal{tooLarge, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", maxBody)}
	sendAgain    = refusal{unavailable, http.StatusServiceUnavailable, "not stored: send it again"}
	// Not "unavailable": anybody can leave a body out, and it is no fault of ours.
	bodyMissing = refusal{unauthorized, http.StatusRequestTimeout, "the body did not arrive whole"}
)

// receive checks a webhook and sees it into Kafka.
func (p *Producer) receive(w http.ResponseWriter, r *http.Request) (result, *refusal) {
	room := share{of: &p.held}
	defer room.giveBack()
	hook, refusal := p.authenticate(w, r, &room)
	if refusal != nil {
		return refusal.result, refusal
	}
	record, verdict := p.record(hook)
	if record == nil {
		return verdict, nil
	}
	if err := p.publish(record); err != nil {
		p.unavailable.warn(p.log, fmt.Errorf("write to topic %q: %w", record.Topic, err))
		return unavailable, &sendAgain
	}
	return verdict, nil
}

// webhook is one whose signature is right.
type webhook struct {
	signature
	body       []byte
	receivedAt time.Time
}

// authenticate reads a webhook and checks its signature. What it keeps in memory
// it takes from room.
func (p *Producer) authenticate(w http.ResponseWriter, r *http.Request, room *share) (webhook, *refusal) {
	receivedAt := p.now()
	sig, err := readSignature(r.Header)
	if err == nil {
		err = sig.fresh(receivedAt)
	}
	if err != nil {
		return webhook{}, &refusal{unauthorized, http.StatusUnauthorized, err.Error()}
	}

	body, err := readBody(w, r, room)
	var overrun *http.MaxBytesError
	switch {
	case errors.Is(err, errNoRoom):
		p.unavailable.warn(p.log, err)
		return webhook{}, &sendAgain
	case errors.As(err, &overrun):
		return webhook{}, &bodyTooLarge
	case err != nil:
		return webhook{}, &bodyMissing
	case !sig.matches(p.secrets, body):
		return webhook{}, &notSigned
	}
	return webhook{sig, body, receivedAt}, nil
}

var provider = []byte(tracking.Resend) // never written to

// record makes a webhook's record, and says how to count the webhook once that
// is in Kafka. There is none for a webhook that is ignored.
func (p *Producer) record(hook webhook) (*kgo.Record, result) {
	// All that goes with the body is one piece of memory.
	text := make([]byte, 0, len(hook.id)+len(hook.timestamp)+len(time.RFC3339Nano)+36) // a UUID has 36
	value := func(longer []byte) []byte {
		added := longer[len(text):len(longer):len(longer)]
		text = longer
		return added
	}
	// One statement each: within one, text might be read before it is longer.
	id := value(append(text, hook.id...))
	timestamp := value(append(text, hook.timestamp...))
	receivedAt := value(hook.receivedAt.UTC().AppendFormat(text, time.RFC3339Nano))
	headers := make([]kgo.RecordHeader, 0, 6)
	headers = append(headers,
		kgo.RecordHeader{Key: "provider", Value: provider},
		kgo.RecordHeader{Key: "webhook-id", Value: id},
		kgo.RecordHeader{Key: "webhook-timestamp", Value: timestamp},
		kgo.RecordHeader{Key: "received-at", Value: receivedAt},
	)
	_, emailID, err := tracking.RouteResend(hook.body)
	var drop *tracking.DropError
	switch {
	case errors.As(err, &drop) && drop.Reason == tracking.Untracked:
		return nil, ignored
	case errors.As(err, &drop):
		return &kgo.Record{Topic: p.deadLetterTopic, Value: hook.body, Headers: append(headers,
			kgo.RecordHeader{Key: "reason", Value: []byte(drop.Reason)},
			kgo.RecordHeader{Key: "detail", Value: []byte(drop.Detail)},
		)}, malformed
	}
	return &kgo.Record{Topic: p.topic, Key: value(append(text, emailID.String()...)), Value: hook.body, Headers: headers}, accepted
}
