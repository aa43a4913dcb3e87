// Package provider defines what mailtally needs from an email provider. Each provider is
// a package below it, which authenticates webhooks and decodes their bodies. Package all
// lists them. Producer and consumer know no more about a provider than what is here, so a
// new provider takes a folder, its configuration, and a line in that list.
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

// Provider decodes what a provider wrote into events. It is all that a consumer needs,
// requires no configuration, and is safe for concurrent use.
type Provider interface {
	// Name is the provider's name in the webhooks' path, in records and in metric labels:
	// lower-case letters and digits.
	Name() string

	// Decode reads an event from the record that an Endpoint made of it. It repairs odd
	// content and never refuses it; an event that cannot be counted is a
	// *[tracking.DropError]. It must always return the same event id for the same event,
	// or replays count twice.
	//
	// receivedAt bounds the event's time. It is the record's own, or the best known if
	// it has none.
	Decode(r *tracking.Record, receivedAt time.Time) (tracking.Event, error)
}

// Endpoint receives a provider's webhooks, given what authenticates them: a secret,
// credentials, an allow-list. It is safe for concurrent use.
type Endpoint interface {
	// Name is the Provider's.
	Name() string

	// Limit is the largest body that is accepted, in bytes.
	Limit() int64

	// Admit checks a request by its headers alone, before its body is read or memory is
	// reserved for it, so refusing here is cheap. The error is a *[Refusal].
	Admit(h http.Header, now time.Time) error

	// Open verifies that the provider sent the request, and splits its body into events.
	// Nothing in the body may be used before that. A handshake or a ping has no events;
	// Open may answer it to the provider by itself, within ctx. The error is a
	// *[Refusal].
	Open(ctx context.Context, r Request) (iter.Seq[Webhook], error)
}

// Request is a request that was admitted.
type Request struct {
	Header     http.Header
	Body       []byte
	ReceivedAt time.Time
}

// MaxValue limits the value of a Webhook, in bytes. A typical event is a hundredth of it;
// with key and headers, it is well within the megabyte that Kafka accepts for a record.
const MaxValue = 256 << 10

// Webhook is one event of a request, or what was sent in place of one.
type Webhook struct {
	// EmailID is the id of the email's row: see [tracking.EmailID].
	EmailID uuid.UUID
	// EventID and SentAt are those of [tracking.Record]: what the provider says about the
	// event outside its value.
	EventID, SentAt string
	// Value is a part of the request's body, byte for byte, or all of it.
	Value []byte
	// Drop says why this is not an event that can be tracked; nil if it is. With reason
	// [tracking.Untracked] it is ignored; with any other it becomes a dead letter.
	Drop *tracking.DropError
}

// Refusal says why a request is refused.
type Refusal struct {
	// Status is the one that makes this provider retry, if that may help, and that never
	// makes it give up on what it could still send: providers differ in how they treat a
	// 4xx.
	Status int
	// Text tells the sender why. It is public and quotes nothing from the request.
	Text string
	// Challenge is the answer's WWW-Authenticate header, if any.
	Challenge string
	// Cause is for the log, if the sender is not at fault.
	Cause error
}

func (r *Refusal) Error() string {
	if r.Cause != nil {
		return fmt.Sprintf("%s: %v", r.Text, r.Cause)
	}
	return r.Text
}

func (r *Refusal) Unwrap() error { return r.Cause }

// Unauthorized refuses a request that is not proved to be the provider's.
func Unauthorized(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusUnauthorized, Text: fmt.Sprintf(format, args...)}
}
