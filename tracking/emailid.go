package tracking

import (
	"crypto/sha256"

	"github.com/google/uuid"
)

// EmailID is the id of an email's row, given the id that its provider has for it:
// that id itself where it is a UUID, written as 36 characters, of either case;
// otherwise, with derived, the first 16 bytes of SHA-256(provider, 0, id) as a UUID
// of version 8 (RFC 9562, section 5.8), which mailtally.email_id gives in SQL. It is
// in the database: it must never change.
func EmailID(provider, id string) (email uuid.UUID, derived bool) {
	if len(id) == 36 {
		if email, err := uuid.Parse(id); err == nil {
			return email, false
		}
	}
	sum := sha256.Sum256([]byte(provider + "\x00" + id))
	email = uuid.UUID(sum[:16])
	email[6] = email[6]&0x0f | 0x80 // version 8
	email[8] = email[8]&0x3f | 0x80 // the variant of RFC 9562
	return email, true
}
