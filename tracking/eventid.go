package tracking

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// keptEventID is how much of an event id [Event.ShortenID] keeps: what the history stores,
// and the rest of a character that straddles its end.
const keptEventID = MaxEventID + utf8.UTFMax

// ShortenID cuts an event id that is longer than what is stored, and keeps its hash, so
// that a batch of events takes a bounded amount of memory, whatever anybody wrote into the
// topic. It does not change which event this is, nor what is stored of it.
func (e *Event) ShortenID() {
	if len(e.EventID) > keptEventID {
		e.hash, e.isCut = eventHash(e.EventID), true
		e.EventID = strings.Clone(e.EventID[:keptEventID])
	}
}

// idHash is the hash of the whole event id.
func (e *Event) idHash() int64 {
	if e.isCut {
		return e.hash
	}
	return eventHash(e.EventID)
}

// eventHash is the first 64 bits of the id's SHA-256. Two ids of one email that collide
// would count once: with a million events of one email, the chance of any collision is 3
// in 100 million. The hashes are in the database, so the function must never change.
func eventHash(eventID string) int64 {
	sum := sha256.Sum256([]byte(eventID))
	return int64(binary.BigEndian.Uint64(sum[:]))
}
