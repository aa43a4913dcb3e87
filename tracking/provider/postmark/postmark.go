// Package postmark is the provider Postmark. Its webhooks have one event per request, no
// signature and, for most types, no id. They are authenticated by the user and password
// that the webhook was created with.
//
// Source: https://postmarkapp.com/developer/webhooks/webhooks-overview and the page on
// each webhook next to it.
package postmark

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"time"

	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider"
)

// Name is the provider's name.
const Name = "postmark"

// maxBody limits a request: if a webhook is set to include content, a bounce or a
// complaint carries the whole message.
const maxBody = 8 << 20

// minPassword is the shortest password that is accepted, in characters. Nothing but it
// proves a webhook, and anybody may try as often as they like.
const minPassword = 16

// Provider implements [provider.Provider].
type Provider struct{}

// Name implements [provider.Provider].
func (Provider) Name() string { return Name }

// Endpoint implements [provider.Endpoint].
type Endpoint struct {
	Provider
	credentials provider.Credentials
}

// New creates an endpoint for webhooks that come with one of credentials, a
// comma-separated list of user:password: more than one while they are being changed. A
// password has 16 characters or more.
// Errors do not quote them.
func New(credentials string) (provider.Endpoint, error) {
	c, err := provider.ParseCredentials(credentials, minPassword)
	if err != nil {
		return nil, err
	}
	return &Endpoint{credentials: c}, nil
}

// Limit implements [provider.Endpoint].
func (*Endpoint) Limit() int64 { return maxBody }

// Admit implements [provider.Endpoint]. It refuses with 401, which Postmark retries:
// after a 403 it would never send the webhook again.
func (e *Endpoint) Admit(h http.Header, _ time.Time) error { return e.credentials.Admit(h) }

// Open implements [provider.Endpoint]. Admit has already proved all that can be proved.
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
	isIgnored := hook.Drop != nil && hook.Drop.Reason == tracking.Untracked // and so has no record to fit into
	if len(hook.Value) > provider.MaxValue && !isIgnored {
		return nil, &provider.Refusal{Status: http.StatusRequestEntityTooLarge, Text: "the body, without Content, is larger than 256 KiB"}
	}
	return func(yield func(provider.Webhook) bool) { yield(hook) }, nil
}
