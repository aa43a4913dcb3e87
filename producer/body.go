package producer

import (
	"errors"
	"io"
	"net/http"
)

// firstRead is the size of the first buffer for a body; few real ones need more.
const firstRead = 4 << 10

var errNoRoom = errors.New("too many webhooks are waiting for Kafka")

// readBody reads the body, up to limit bytes. Its memory grows with what arrives, not
// with the announced length, and is reserved in room first: the sender is not yet
// authenticated, so announcing much and sending little must not keep others out.
//
// The error is [errNoRoom], a *[http.MaxBytesError], or an error of the connection.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, room *share) ([]byte, error) {
	most := r.ContentLength
	if most > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	if most < 0 { // unknown
		most = limit
	}
	if !room.grow(heldPerRecord) {
		return nil, errNoRoom
	}
	body := http.MaxBytesReader(w, r.Body, most)
	var read []byte
	for size := int64(firstRead); ; size *= 2 {
		size = min(size, most+1) // one more, for the read that returns EOF
		if !room.grow(size) {
			return nil, errNoRoom
		}
		smaller := int64(cap(read))
		read = append(make([]byte, 0, size), read...)
		room.shrink(smaller)
		for len(read) < cap(read) {
			n, err := body.Read(read[len(read):cap(read)])
			read = read[:len(read)+n]
			if err == io.EOF {
				return read, nil
			}
			if err != nil {
				return nil, err
			}
		}
	}
}
