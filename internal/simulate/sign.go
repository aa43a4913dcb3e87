package simulate

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	secretPrefix = "whsec_"

	// staleAge is how old the timestamp of a [Stale] webhook is, far beyond the five
	// minutes that receivers tolerate.
	staleAge = time.Hour

	userAgent = "Svix-Webhooks/1.62.0 (sender-9YMgn; +https://www.svix.com/http-sender/)"
)

// Signer signs as Svix and Standard Webhooks do. It is safe for concurrent
// use.
type Signer struct {
	key   []byte
	wrong []byte // the forger's, never equal to key
}

// NewSigner reads a secret: base64, with or without the prefix whsec_. Its errors do
// not quote the secret, as they end up in logs.
func NewSigner(secret string) (*Signer, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil {
		return nil, fmt.Errorf("decode secret: %w", err)
	}
	if len(key) == 0 {
		return nil, errors.New("secret is empty")
	}
	wrong := sha256.Sum256(key)
	return &Signer{key: key, wrong: wrong[:]}, nil
}

// Sign returns the value of the svix-signature header.
func (s *Signer) Sign(id string, at time.Time, body []byte) string {
	return sign(s.key, id, strconv.FormatInt(at.Unix(), 10), body)
}

// Header returns the headers that w is sent with at now: a valid signature, except for
// [Forged], and a valid timestamp, except for [Stale].
func (s *Signer) Header(w Webhook, now time.Time) http.Header {
	key := s.key
	switch w.Kind {
	case Forged:
		key = s.wrong
	case Stale:
		now = now.Add(-staleAge)
	}
	timestamp := strconv.FormatInt(now.Unix(), 10)
	// The keys are in canonical form already, so that Set need not convert them.
	return http.Header{
		"Content-Type":   {"application/json"},
		"User-Agent":     {userAgent},
		"Svix-Id":        {w.ID},
		"Svix-Timestamp": {timestamp},
		"Svix-Signature": {sign(key, w.ID, timestamp, w.Body)},
	}
}

func sign(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
