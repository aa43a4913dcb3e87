// Package postmark is the provider Postmark. Its webhooks are an event a request, with
// neither a signature nor, for most types, an id: what proves them is the user and
// password that the webhook was created with.
//
// Source: https://postmarkapp.com/developer/webhooks/webhooks-overview and the pages
// on each webhook beside it.
package postmark

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"time"

	"github.com/mailtally/mailtally/tracking/provider"
)

// Name is the provider's.
const Name = "postmark"

// maxBody is what a request may have: where a webhook is set to include content, a
// bounce or a complaint carries the whole message.
const maxBody = 8 << 20

// Provider implements [provider.Provider].
type Provider struct{}

// Name implements [provider.Provider].
func (Provider) Name() string { return Name }

// Endpoint implements [provider.Endpoint].
type Endpoint struct {
	Provider
	credentials provider.Credentials
}

// New makes an endpoint for webhooks that come with one of credentials, a
// comma-separated list of user:password: more than one while they are being changed.
// Errors do not quote them.
func New(credentials string) (provider.Endpoint, error) {
	c, err := provider.ParseCredentials(credentials)
	if err != nil {
		return nil, err
	}
	return &Endpoint{credentials: c}, nil
}

// Limit implements [provider.Endpoint].
func (*Endpoint) Limit() int64 { return maxBody }

// Admit implements [provider.Endpoint]. It refuses with 401, which Postmark repeats:
// after a 403 it would never send the webhook again.
func (e *Endpoint) Admit(h http.Header, _ time.Time) error { return e.credentials.Admit(h) }

// Open implements [provider.Endpoint]. All there is to prove is proved by Admit.
func (e *Endpoint) Open(_ context.Context, r provider.Request) (iter.Seq[provider.Webhook], error) {
	var hook provider.Webhook
	var b body
	err := b.read(r.Body)
	if err == nil {
		_, hook.EmailID, _, err = b.route()
	}
	if err != nil && !errors.As(err, &hook.Drop) {
		return nil, err
	}
	hook.Value = b.withoutContent(r.Body)
	if len(hook.Value) > provider.MaxValue {
		return nil, &provider.Refusal{Status: http.StatusRequestEntityTooLarge, Text: "the body, without Content, is larger than 256 KiB"}
	}
	return func(yield func(provider.Webhook) bool) { yield(hook) }, nil
}
