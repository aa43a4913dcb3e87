package tracking

import (
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// Type says what happened to an email. The zero Type is none.
type Type uint8

// The types in the order in which an email usually meets them.
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

// String is the type's name in the database and in metric labels; "unknown" for
// what is no type.
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

// Event is one thing that happened to one email, as the database stores it.
// (EmailID, EventID) identifies it: two events with the same pair are the same
// event, whatever else they hold.
type Event struct {
	EmailID uuid.UUID
	// ProviderEmailID is the provider's own id of the email where EmailID was derived
	// from it (see [EmailID]); empty where they are the same.
	ProviderEmailID string
	// EventID is the provider's, the same on every redelivery.
	EventID string
	Type    Type
	// OccurredAt is when it happened, in UTC and whole microseconds, which is
	// what timestamptz holds.
	OccurredAt time.Time

	// The rest is history's, empty where the provider did not say.

	Link      string     // clicked
	IP        netip.Addr // opened, clicked
	UserAgent string     // opened, clicked
	Reason    string     // bounced: "type/subType"; failed: the reason; suppressed: the type
	Message   string     // bounced, suppressed: the provider's words
}

// Limits of what is stored, in bytes. Longer text is cut, never refused: an
// event that can be counted is counted.
const (
	MaxLink      = 8 << 10
	MaxUserAgent = 1 << 10
	MaxReason    = 256
	MaxMessage   = 1 << 10
	// MaxEventID bounds the stored copy alone: events are told apart by a hash of
	// the whole id.
	MaxEventID = 256
	// MaxProviderEmailID is above what RFC 5322 lets a line hold, and so a Message-ID.
	// It bounds the stored copy alone, as does MaxEventID.
	MaxProviderEmailID = 1 << 10
)

// maxAhead is how far beyond its receipt an event's time may lie: a provider's clock
// may be ahead of ours.
const maxAhead = 24 * time.Hour

var minOccurredAt = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// SetOccurredAt sets the event's time to at, in whole microseconds, if it is
// believable: from 2000 on, and no more than a day after the receipt. Otherwise the
// error is a *[DropError].
func (e *Event) SetOccurredAt(at, receivedAt time.Time) error {
	if at.Before(minOccurredAt) || at.After(receivedAt.Add(maxAhead)) {
		return &DropError{Reason: TimeOutOfRange, Type: e.Type, Detail: at.UTC().Format(time.RFC3339Nano)}
	}
	e.OccurredAt = at.UTC().Truncate(time.Microsecond)
	return nil
}
