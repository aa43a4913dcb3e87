// Package provider says what mailtally asks of an email provider. Each provider is a
// package below it: the proof that a webhook is the provider's own, and the reading
// of its bodies. Package all lists them. Neither producer nor consumer knows more of
// one than is here, so a new provider is a folder, its configuration, and a line in
// that list.
package provider

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
)

// Provider turns what a provider wrote into events. It is all that a consumer needs,
// and needs no configuration. It is safe for concurrent use.
type Provider interface {
	// Name is the provider's in the webhooks' path, in records and in metric labels:
	// lower-case letters and digits.
	Name() string

	// Decode reads an event from the record that an Endpoint made of it. Odd content is
	// mended, never refused; what cannot be counted is a *[tracking.DropError]. It must
	// give the same event id for the same event for ever, or replays count twice.
	//
	// receivedAt bounds the event's time. It is the record's own, or the best that is
	// known where it has none.
	Decode(r *tracking.Record, receivedAt time.Time) (tracking.Event, error)
}

// Endpoint takes a provider's webhooks, given what proves them to be the provider's:
// a secret, credentials, an allow-list. It is safe for concurrent use.
type Endpoint interface {
	// Name is the Provider's.
	Name() string

	// Limit is the largest body that is read, in bytes.
	Limit() int64

	// Admit checks a request by its headers alone, before its body is read or memory is
	// taken for it: what can be refused by now costs little. The error is a *[Refusal].
	Admit(h http.Header, now time.Time) error

	// Open proves that the provider sent the request, and cuts its body into events.
	// Nothing of it may be used before it is proved. There are no events in a request
	// that is a handshake or a ping, which Open may answer to the provider by itself,
	// within ctx. The error is a *[Refusal].
	Open(ctx context.Context, r Request) (iter.Seq[Webhook], error)
}

// Request is a request that was admitted.
type Request struct {
	Header     http.Header
	Body       []byte
	ReceivedAt time.Time
}

// MaxValue bounds the value of a Webhook, in bytes: an event of a usual size is a
// hundredth of it, and with key and headers it is well within the megabyte that Kafka
// takes for a record.
const MaxValue = 256 << 10

// Webhook is one event of a request, or what was sent in an event's place.
type Webhook struct {
	// EmailID is the id of the email's row: see [tracking.EmailID].
	EmailID uuid.UUID
	// EventID and SentAt are those of [tracking.Record]: what the provider says of the
	// event beside it.
	EventID, SentAt string
	// Value is a part of the request's body, byte for byte, or all of it.
	Value []byte
	// Drop says why this is no event that can be tracked; nil where it is one. With the
	// reason [tracking.Untracked] it is ignored, with any other it becomes a dead letter.
	Drop *tracking.DropError
}

// Refusal is why a request is not taken.
type Refusal struct {
	// Status is what has this provider send again, if that may help, and never gives up
	// what it could send again: providers differ in what they make of a 4xx.
	Status int
	// Text tells the sender why. It is public, and quotes nothing of the request.
	Text string
	// Challenge is the answer's WWW-Authenticate, if it is to have one.
	Challenge string
	// Cause is for the log, where the sender is not at fault.
	Cause error
}

func (r *Refusal) Error() string {
	if r.Cause != nil {
		return fmt.Sprintf("%s: %v", r.Text, r.Cause)
	}
	return r.Text
}

func (r *Refusal) Unwrap() error { return r.Cause }

// Unauthorized refuses what is not proved to be the provider's.
func Unauthorized(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusUnauthorized, Text: fmt.Sprintf(format, args...)}
}
