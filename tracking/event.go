package tracking

import (
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// Type says what happened to an email. The zero Type is invalid.
type Type uint8

// The types, in the order in which an email usually goes through them.
const (
	Scheduled Type = iota + 1
	Sent
	Delivered
	DeliveryDelayed
	Opened
	Clicked
	Bounced
	Complained
	Failed
	Suppressed

	typeEnd
)

var typeNames = [typeEnd]string{
	Scheduled:       "scheduled",
	Sent:            "sent",
	Delivered:       "delivered",
	DeliveryDelayed: "delivery_delayed",
	Opened:          "opened",
	Clicked:         "clicked",
	Bounced:         "bounced",
	Complained:      "complained",
	Failed:          "failed",
	Suppressed:      "suppressed",
}

// String is the type's name in the database and in metric labels; "unknown" for an
// invalid type.
func (t Type) String() string {
	if t == 0 || t >= typeEnd {
		return "unknown"
	}
	return typeNames[t]
}

// Types lists every type.
func Types() []Type {
	types := make([]Type, 0, typeEnd-1)
	for t := Scheduled; t < typeEnd; t++ {
		types = append(types, t)
	}
	return types
}

// Event is one thing that happened to one email, as the database stores it. (EmailID,
// EventID) identifies it: two events with the same pair are the same event, whatever
// else they contain.
type Event struct {
	EmailID uuid.UUID
	// ProviderEmailID is the provider's own id of the email if EmailID was derived from
	// it (see [EmailID]); empty if they are the same.
	ProviderEmailID string
	// EventID is the provider's, the same on every redelivery; its beginning after
	// [Event.ShortenID].
	EventID string
	hash    int64 // of the whole EventID, if isCut
	isCut   bool
	Type    Type
	// OccurredAt is when it happened, in UTC and whole microseconds, the resolution of
	// timestamptz.
	OccurredAt time.Time

	// The rest is only for the history; empty if the provider did not say.

	Link      string     // clicked
	IP        netip.Addr // opened, clicked
	UserAgent string     // opened, clicked
	Reason    string     // bounced: "type/subType"; failed: the reason; suppressed: the type
	Message   string     // bounced, suppressed: the provider's words
}

// Limits of what is stored, in bytes. Longer text is truncated, never refused: an event
// that can be counted is counted.
const (
	MaxLink      = 8 << 10
	MaxUserAgent = 1 << 10
	MaxReason    = 256
	MaxMessage   = 1 << 10
	// MaxEventID limits only the stored copy: events are told apart by a hash of the
	// whole id.
	MaxEventID = 256
	// MaxProviderEmailID is above the longest line, and so the longest Message-ID, that
	// RFC 5322 allows. Like MaxEventID, it limits only the stored copy.
	MaxProviderEmailID = 1 << 10
)

// maxAhead is how far an event's time may lie after its receipt: a provider's clock may
// be ahead of ours.
const maxAhead = 24 * time.Hour

var minOccurredAt = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// SetOccurredAt sets the event's time to at, in whole microseconds, if it is plausible:
// not before 2000, and at most a day after the receipt. Otherwise the error is a
// *[DropError].
func (e *Event) SetOccurredAt(at, receivedAt time.Time) error {
	if at.Before(minOccurredAt) || at.After(receivedAt.Add(maxAhead)) {
		return &DropError{Reason: TimeOutOfRange, Type: e.Type, Detail: at.UTC().Format(time.RFC3339Nano)}
	}
	e.OccurredAt = at.UTC().Truncate(time.Microsecond)
	return nil
}
