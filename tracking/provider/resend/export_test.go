package resend

import "github.com/google/uuid"

// Route finds whose email a body is about, as an Endpoint does.
func Route(text []byte) (uuid.UUID, error) {
	var b body
	if err := b.read(text); err != nil {
		return uuid.UUID{}, err
	}
	_, email, err := b.route()
	return email, err
}
