package resend

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mailtally/mailtally/tracking/provider"
)

// Secret is the key of a webhook endpoint.
type Secret struct {
	// sign appends the signature that a webhook should have. It is a function so that
	// printing a struct that contains a Secret reveals no key, at any depth. It is nil in
	// an empty Secret.
	sign func(to []byte, s signature, body []byte) []byte
}

// minKey is the shortest key that is accepted, in bytes. Svix, and so Resend, draws 24.
const minKey = 16

// ParseSecret parses a secret as providers print it: base64, with or without padding,
// with or without the prefix whsec_. One of fewer than 16 bytes is an error, since anyone
// could guess it and sign with it. Errors do not quote the secret.
func ParseSecret(text string) (Secret, error) {
	text = strings.TrimSpace(text)
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimPrefix(text, "whsec_"), "="))
	switch {
	case text == "v1" || text == "v1a":
		return Secret{}, fmt.Errorf("%s, which marks a signature, or what other products put before a secret: leave it out, and its comma", text)
	case strings.HasPrefix(text, "re_"):
		return Secret{}, errors.New("an API key, with which an application sends: copy the webhook's signing secret, whsec_…, from its page")
	case strings.ContainsAny(text, "\"'`“”"):
		return Secret{}, errors.New("in quotes: leave them out")
	case err != nil:
		return Secret{}, errors.New("not base64: copy the whole secret, whsec_…, from the provider's page")
	case len(key) < minKey:
		return Secret{}, fmt.Errorf("shorter than %d bytes, so it can be guessed: copy the whole secret, whsec_…, from the provider's page", minKey)
	case provider.Placeholder(key):
		return Secret{}, errors.New("a placeholder: copy the secret, whsec_…, from the provider's page")
	}
	// A reused MAC keeps its memory and need not hash the key again.
	macs := sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, key)} }}
	return Secret{func(to []byte, s signature, body []byte) []byte {
		m := macs.Get().(*mac)
		defer macs.Put(m)
		return m.sign(to, s, body)
	}}, nil
}

// mac signs with one secret. Only one goroutine may use it at a time.
type mac struct {
	hash.Hash
	text []byte
}

func (m *mac) sign(to []byte, s signature, body []byte) []byte {
	m.Reset()
	m.text = append(append(append(append(m.text[:0], s.id...), '.'), s.timestamp...), '.')
	m.Write(m.text)
	m.Write(body)
	m.text = m.Sum(m.text[:0])
	return base64.StdEncoding.AppendEncode(to, m.text)
}

// String keeps the secret out of logs.
func (Secret) String() string { return "whsec_(hidden)" }

// GoString keeps it out of %#v too.
func (s Secret) GoString() string { return s.String() }

// tolerance is how far a webhook's timestamp may differ from our clock, either way,
// according to the Standard Webhooks specification. It limits how long a recorded request
// can be replayed.
const tolerance = 5 * time.Minute

// signature is the signature headers of a webhook.
type signature struct {
	id         string
	timestamp  string
	signatures string
}

// readSignature reads the headers that Svix uses, or those of the Standard Webhooks
// specification, which differ only in the prefix.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
func readSignature(h http.Header) (signature, error) {
	s := signature{h.Get("Svix-Id"), h.Get("Svix-Timestamp"), h.Get("Svix-Signature")}
	if s.whole() {
		return s, nil
	}
	s = signature{h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), h.Get("Webhook-Signature")}
	if s.whole() {
		return s, nil
	}
	return signature{}, provider.Unauthorized("missing signature headers: svix-id, svix-timestamp and svix-signature, or webhook-*")
}

func (s signature) whole() bool { return s.id != "" && s.timestamp != "" && s.signatures != "" }

// fresh checks that the webhook was signed within the tolerance of now.
func (s signature) fresh(now time.Time) error {
	seconds, err := strconv.ParseInt(s.timestamp, 10, 64)
	if err != nil {
		return provider.Unauthorized("the signature's timestamp is not a number of seconds")
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return provider.Unauthorized("the signature's timestamp is more than %v away from this server's clock", tolerance)
	}
	return nil
}

// matches tells whether any of the signatures is right for body under any of the secrets.
// Several signatures, and several secrets, are normal while a secret is being rotated.
// Versions other than v1 are skipped.
func (s signature) matches(secrets []Secret, body []byte) bool {
	expected := make([]byte, 0, base64.StdEncoding.EncodedLen(sha256.Size))
	given := make([]byte, 0, 64)
	for _, secret := range secrets {
		expected = secret.sign(expected[:0], s, body)
		for entry := range strings.SplitSeq(s.signatures, " ") {
			text, isV1 := strings.CutPrefix(entry, "v1,")
			given = append(given[:0], text...)
			if isV1 && hmac.Equal(given, expected) {
				return true
			}
		}
	}
	return false
}
