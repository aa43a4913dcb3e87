package provider

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"
)

// Credentials are what a provider may send by Basic authentication (RFC 7617): more than
// one while they are being changed.
type Credentials struct {
	// match is a function so that printing a struct that contains Credentials reveals no
	// password, at any depth. It is nil if there are none.
	match func(sent []byte) bool
}

// ParseCredentials parses a comma-separated list of user:password. A user must not
// contain a colon, and neither may contain a comma. The error joins one error per invalid
// entry, and quotes none of them.
func ParseCredentials(list string) (Credentials, error) {
	var accepted [][sha256.Size]byte
	var errs []error
	for i, entry := range strings.Split(list, ",") {
		entry = strings.TrimSpace(entry)
		user, password, found := strings.Cut(entry, ":")
		if !found || user == "" || password == "" || strings.ContainsFunc(entry, unicode.IsControl) {
			errs = append(errs, fmt.Errorf("entry %d is not user:password, both in printable text", i+1))
		}
		accepted = append(accepted, sha256.Sum256([]byte(entry)))
	}
	if err := errors.Join(errs...); err != nil {
		return Credentials{}, err
	}
	return Credentials{func(sent []byte) bool {
		// Hashes all have the same length, and each is compared, so the time taken
		// reveals nothing about what is accepted.
		sum := sha256.Sum256(sent)
		matches := 0
		for i := range accepted {
			matches |= subtle.ConstantTimeCompare(sum[:], accepted[i][:])
		}
		return matches == 1
	}}, nil
}

// String keeps the credentials out of logs.
func (Credentials) String() string { return "(hidden)" }

// GoString keeps them out of %#v too.
func (c Credentials) GoString() string { return c.String() }

// Admit checks the Authorization header. Its error is a *[Refusal] with status 401 and a
// challenge.
func (c Credentials) Admit(h http.Header) error {
	const basic = "Basic "
	given := h.Get("Authorization")
	if len(given) > len(basic) && strings.EqualFold(given[:len(basic)], basic) {
		// The user ends at the first colon, and no accepted user contains one, so user
		// and password can be compared together.
		sent, err := base64.StdEncoding.DecodeString(strings.TrimSpace(given[len(basic):]))
		if err == nil && c.match != nil && c.match(sent) {
			return nil
		}
	}
	refusal := Unauthorized("missing or wrong user and password")
	refusal.Challenge = `Basic realm="mailtally", charset="UTF-8"`
	return refusal
}
