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
		p.log.Warn("webhook answered 503: the provider sends it again", "reason", string(result), "error", refusal.cause)
	} else {
		p.log.Info("webhook refused", "reason", string(result), "error", refusal.text)
	}
	http.Error(w, refusal.text, refusal.status)
}

// refusal is an answer other than 2xx, and how it is counted. Its text is public,
// and quotes nothing of the request.
type refusal struct {
	result result
	status int
	text   string
	cause  error // of what is no fault of the sender's
}

var (
	notSigned    = refusal{result: unauthorized, status: http.StatusUnauthorized, text: "no signature matches"}
	bodyTooLarge = refusal{result: tooLarge, status: http.StatusRequestEntityTooLarge, text: fmt.Sprintf("the body is larger than %d bytes", maxBody)}
	// Not "unavailable": anybody can leave a body out, and it is no fault of ours.
	bodyMissing = refusal{result: unauthorized, status: http.StatusRequestTimeout, text: "the body did not arrive whole"}
)

func sendAgain(cause error) *refusal {
	return &refusal{unavailable, http.StatusServiceUnavailable, "not stored: send it again", cause}
}

// receive checks a webhook and sees it into Kafka.
func (p *Producer) receive(w http.ResponseWriter, r *http.Request) (result, *refusal) {
	room := share{of: &p.held}
	defer room.giveBack()
	hook, refusal := p.authenticate(w, r, &room)
	if refusal != nil {
		return refusal.result, refusal
	}
	record, verdict, reason := p.record(hook)
	if record == nil {
		return verdict, nil
	}
	if err := p.publish(record); err != nil {
		return unavailable, sendAgain(fmt.Errorf("write to topic %q: %w", record.Topic, err))
	}
	if verdict == malformed {
		p.log.Info("webhook dropped to the dead-letter topic", "reason", string(reason),
			"topic", record.Topic, "partition", record.Partition, "offset", record.Offset)
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
		return webhook{}, &refusal{result: unauthorized, status: http.StatusUnauthorized, text: err.Error()}
	}

	body, err := readBody(w, r, room)
	var overrun *http.MaxBytesError
	switch {
	case errors.Is(err, errNoRoom):
		return webhook{}, sendAgain(err)
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
// is in Kafka, and why it is to be a dead letter, if it is. There is none for a
// webhook that is ignored.
func (p *Producer) record(hook webhook) (*kgo.Record, result, tracking.Reason) {
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
		return nil, ignored, drop.Reason
	case errors.As(err, &drop):
		return &kgo.Record{Topic: p.deadLetterTopic, Value: hook.body, Headers: append(headers,
			kgo.RecordHeader{Key: "reason", Value: []byte(drop.Reason)},
			kgo.RecordHeader{Key: "detail", Value: []byte(drop.Detail)},
		)}, malformed, drop.Reason
	}
	return &kgo.Record{Topic: p.topic, Key: value(append(text, emailID.String()...)), Value: hook.body, Headers: headers}, accepted, ""
}
