package producer

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// firstRead is the size of the first buffer for a body; few real ones need more.
const firstRead = 4 << 10

var errCutOff = errors.New("cut off, to make room for others")

// readBody reads the body, up to limit bytes. Its memory grows with what arrives, not
// with the announced length, and is reserved in room first, the old buffer together with
// the new one while it is copied: the sender is not yet authenticated.
//
// The error is [errCutOff], a *[http.MaxBytesError], or an error of the connection.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, room *arrival) ([]byte, error) {
	most := r.ContentLength
	if most > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	if most < 0 { // unknown
		most = limit
	}
	if !room.grow(heldPerRecord) {
		return nil, errCutOff
	}
	body := http.MaxBytesReader(w, r.Body, most)
	var read []byte
	for size := int64(firstRead); ; size *= 2 {
		if size >= most {
			size = most + 1 // for the read that returns EOF
		}
		if !room.grow(size) {
			return nil, errCutOff
		}
		smaller := int64(cap(read))
		read = append(make([]byte, 0, size), read...)
		room.shrink(smaller)
		for len(read) < cap(read) {
			n, err := body.Read(read[len(read):cap(read)])
			read = read[:len(read)+n]
			if err == nil {
				continue
			}
			if !room.whole() {
				return nil, errCutOff
			}
			if err == io.EOF {
				return read, nil
			}
			return nil, err
		}
	}
}

// interrupt makes the reading of a request's body fail at once.
func interrupt(w http.ResponseWriter) func() {
	// It fails only where the connection is gone, or for a server that is none of
	// net/http's: then the server's ReadTimeout ends it.
	return func() { _ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) }
}
