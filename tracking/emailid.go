package tracking

import (
	"crypto/sha256"

	"github.com/google/uuid"
)

// EmailID returns the id of an email's row, given the provider's id of the email. If that
// is a UUID, written as 36 characters in either case, it is used as it is. Otherwise
// derived is true, and the id is the first 16 bytes of SHA-256(provider, 0, id) as a UUID
// of version 8 (RFC 9562, section 5.8). mailtally.email_id does the same in SQL. The ids
// are in the database, so the function must never change.
func EmailID[T ~string | ~[]byte](provider string, id T) (email uuid.UUID, derived bool) {
	if len(id) == 36 { // the package uuid accepts other forms too, and 38 bytes with any two around a UUID
		if email, err := uuid.ParseBytes([]byte(id)); err == nil {
			return email, false
		}
	}
	sum := sha256.Sum256(append([]byte(provider+"\x00"), id...))
	email = uuid.UUID(sum[:16])
	email[6] = email[6]&0x0f | 0x80 // version 8
	email[8] = email[8]&0x3f | 0x80 // the variant of RFC 9562
	return email, true
}
