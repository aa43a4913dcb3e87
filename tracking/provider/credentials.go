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

// Credentials are those that a provider may send by Basic authentication (RFC 7617):
// more than one while they are being changed.
type Credentials struct {
	// match is a function so that what prints a struct with Credentials inside finds no
	// password in it, however deep it looks. It is nil where there are none.
	match func(sent []byte) bool
}

// ParseCredentials reads a comma-separated list of user:password. A user has no
// colon, and neither of the two has a comma. The error joins one for each
// that is none, and quotes none.
func ParseCredentials(list string) (Credentials, error) {
	var accepted [][sha256.Size]byte
	var errs []error
	for i, entry := range strings.Split(list, ",") {
		entry = strings.TrimSpace(entry)
		user, password, found := strings.Cut(entry, ":")
		if !found || user == "" || password == "" || strings.ContainsFunc(entry, unicode.IsControl) {
			errs = append(errs, fmt.Errorf("entry %d is no user:password, both of them printable text", i+1))
		}
		accepted = append(accepted, sha256.Sum256([]byte(entry)))
	}
	if err := errors.Join(errs...); err != nil {
		return Credentials{}, err
	}
	return Credentials{func(sent []byte) bool {
		// As hashes they are all of one length, and each is compared: the time that it
		// takes says nothing of what is accepted.
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

// Empty says that there are none, and so nothing is admitted.
func (c Credentials) Empty() bool { return c.match == nil }

// Admit checks the header Authorization. Its error is a *[Refusal] with the status
// 401 and a challenge.
func (c Credentials) Admit(h http.Header) error {
	const basic = "Basic "
	given := h.Get("Authorization")
	if len(given) > len(basic) && strings.EqualFold(given[:len(basic)], basic) {
		// The user ends at the first colon, and none that is accepted has one, so user and
		// password are right together or not at all.
		sent, err := base64.StdEncoding.DecodeString(strings.TrimSpace(given[len(basic):]))
		if err == nil && c.match != nil && c.match(sent) {
			return nil
		}
	}
	refusal := Unauthorized("no user and password, or not those that are accepted")
	refusal.Challenge = `Basic realm="mailtally", charset="UTF-8"`
	return refusal
}
