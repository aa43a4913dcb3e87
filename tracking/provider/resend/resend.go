// Package resend is the provider Resend. Its webhooks are Svix's: one event per request,
// with an id and a signature in the headers, according to the Standard Webhooks
// specification.
//
// Sources: https://resend.com/docs/dashboard/webhooks/introduction and
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
package resend

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/mailtally/mailtally/tracking/provider"
)

// Name is the provider's name.
const Name = "resend"

// Provider implements [provider.Provider].
type Provider struct{}

// Name implements [provider.Provider].
func (Provider) Name() string { return Name }

// Endpoint implements [provider.Endpoint].
type Endpoint struct {
	Provider
	secrets []Secret
}

// New creates an endpoint for webhooks that are signed with one of secrets, a
// comma-separated list: more than one while they are being rotated. The error joins one
// error per invalid secret, and quotes none of them.
func New(secrets string) (provider.Endpoint, error) {
	e := new(Endpoint)
	var errs []error
	for i, text := range strings.Split(secrets, ",") {
		secret, err := ParseSecret(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("secret %d is %w", i+1, err))
		}
		e.secrets = append(e.secrets, secret)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return e, nil
}

// Limit implements [provider.Endpoint]. Real bodies have about 1 KiB.
func (*Endpoint) Limit() int64 { return provider.MaxValue }

// Admit implements [provider.Endpoint]: there must be a signature, and it must be recent.
func (*Endpoint) Admit(h http.Header, now time.Time) error {
	s, err := readSignature(h)
	if err != nil {
		return err
	}
	return s.fresh(now)
}

// Open implements [provider.Endpoint]: the signature must match the body's raw bytes.
func (e *Endpoint) Open(_ context.Context, r provider.Request) (iter.Seq[provider.Webhook], error) {
	s, err := readSignature(r.Header)
	if err != nil {
		return nil, err
	}
	if !s.matches(e.secrets, r.Body) {
		return nil, provider.Unauthorized("no signature matches")
	}
	hook := provider.Webhook{EventID: s.id, SentAt: s.timestamp, Value: r.Body}
	var b body
	if err = b.read(r.Body); err == nil {
		_, hook.EmailID, err = b.route()
	}
	if err != nil && !errors.As(err, &hook.Drop) {
		return nil, err
	}
	return func(yield func(provider.Webhook) bool) { yield(hook) }, nil
}
