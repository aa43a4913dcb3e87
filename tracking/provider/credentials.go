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
	"unicode/utf8"
)

// Credentials are what a provider may send by Basic authentication (RFC 7617): more than
// one while they are being changed.
type Credentials struct {
	// match is a function so that printing a struct that contains Credentials reveals no
	// password, at any depth. It is nil if there are none.
	match func(sent []byte) bool
}

// ParseCredentials parses a comma-separated list of user:password. A user must not
// contain a colon, and neither may contain a comma; a password has minPassword characters
// or more. The error joins one error per invalid entry, and quotes none of them.
func ParseCredentials(list string, minPassword int) (Credentials, error) {
	var accepted [][sha256.Size]byte
	var errs []error
	for i, entry := range strings.Split(list, ",") {
		entry = strings.TrimSpace(entry)
		user, password, found := strings.Cut(entry, ":")
		switch {
		case !found || user == "" || password == "" || strings.ContainsFunc(entry, unicode.IsControl):
			errs = append(errs, fmt.Errorf("entry %d is not user:password, both in printable text", i+1))
		case enclosed(entry) || enclosed(password):
			errs = append(errs, fmt.Errorf("entry %d is in quotes or brackets: leave them out", i+1))
		case utf8.RuneCountInString(password) < minPassword:
			errs = append(errs, fmt.Errorf("entry %d has a password of fewer than %d characters, which can be guessed: generate one, for example with openssl rand -hex 16", i+1, minPassword))
		case minPassword > 1 && Placeholder([]byte(password)):
			errs = append(errs, fmt.Errorf("entry %d has a placeholder for a password: generate one, for example with openssl rand -hex 16", i+1))
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

// enclosed reports whether s is between quotes, or brackets as in <password>: so it stands
// in documentation and in files that somebody copies from.
func enclosed(s string) bool {
	for _, pair := range []string{`""`, "''", "``", "<>", "“”"} {
		open, shut := []rune(pair)[0], []rune(pair)[1]
		if strings.HasPrefix(s, string(open)) && strings.HasSuffix(s, string(shut)) {
			return true
		}
	}
	return false
}

// Placeholder reports whether a secret consists of so few different bytes that nobody can
// have drawn it at random: xxxx…, 0000….
func Placeholder(secret []byte) bool {
	different := make(map[byte]bool)
	for _, b := range secret {
		different[b] = true
	}
	return len(different) < 5
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
