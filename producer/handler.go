package producer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// Handler serves POST /webhooks/resend, and nothing else.
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
//	503  Kafka has not acknowledged it in time: send it again
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

// refusal is an answer other than 2xx. Its text is public.
type refusal struct {
	status int
	text   string
}

// receive checks a webhook and sees it into Kafka.
func (p *Producer) receive(w http.ResponseWriter, r *http.Request) (result, *refusal) {
	receivedAt := p.now()
	sig, err := readSignature(r.Header)
	if err == nil {
		err = sig.fresh(receivedAt)
	}
	if err != nil {
		return unauthorized, &refusal{http.StatusUnauthorized, err.Error()}
	}

	size := r.ContentLength
	if size > maxBody {
		return tooLarge, &bodyTooLarge
	}
	if size < 0 {
		size = maxBody // not said: it may be so much
	}
	size += heldPerRequest
	if !p.held.take(size) {
		p.unavailable.warn(p.log, errors.New("too many webhooks are waiting for Kafka"))
		return unavailable, &sendAgain
	}
	defer p.held.give(size)

	body, err := readBody(w, r)
	var overrun *http.MaxBytesError
	switch {
	case errors.As(err, &overrun):
		return tooLarge, &bodyTooLarge
	case err != nil:
		// Not "unavailable": anybody can do this, and it is no fault of ours.
		return unauthorized, &refusal{http.StatusRequestTimeout, "the body did not arrive whole"}
	case !sig.matches(p.secrets, body):
		return unauthorized, &refusal{http.StatusUnauthorized, "no signature matches"}
	}

	record := &kgo.Record{
		Topic: p.topic,
		Value: body,
		Headers: []kgo.RecordHeader{
			{Key: "provider", Value: []byte(tracking.Resend)},
			{Key: "webhook-id", Value: []byte(sig.id)},
			{Key: "webhook-timestamp", Value: []byte(sig.timestamp)},
			{Key: "received-at", Value: receivedAt.UTC().AppendFormat(nil, time.RFC3339Nano)},
		},
	}
	verdict := accepted
	_, emailID, err := tracking.RouteResend(body)
	var drop *tracking.DropError
	switch {
	case err == nil:
		record.Key = []byte(emailID.String())
	case errors.As(err, &drop) && drop.Reason == tracking.Untracked:
		return ignored, nil
	case errors.As(err, &drop):
		verdict = malformed
		record.Topic = p.deadLetterTopic
		record.Headers = append(record.Headers,
			kgo.RecordHeader{Key: "reason", Value: []byte(drop.Reason)},
			kgo.RecordHeader{Key: "detail", Value: []byte(drop.Detail)})
	}
	if err := p.publish(record); err != nil {
		p.unavailable.warn(p.log, fmt.Errorf("write to topic %q: %w", record.Topic, err))
		return unavailable, &sendAgain
	}
	return verdict, nil
}

var (
	bodyTooLarge = refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", maxBody)}
	sendAgain    = refusal{http.StatusServiceUnavailable, "not stored: send it again"}
)

// readBody reads the body, which grows in memory no faster than it arrives.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limited := http.MaxBytesReader(w, r.Body, maxBody)
	if r.ContentLength >= 0 {
		body := make([]byte, r.ContentLength)
		_, err := io.ReadFull(limited, body)
		return body, err
	}
	var body bytes.Buffer
	_, err := body.ReadFrom(limited)
	return body.Bytes(), err
}
