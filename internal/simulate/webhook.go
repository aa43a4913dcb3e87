package simulate

import "strconv"

// Webhook is one delivery as the provider would make it, not yet signed:
// the signature and its timestamp are new at each attempt, see
// [Signer.Header].
type Webhook struct {
	ID      string // svix-id: the same on every redelivery
	Type    string // as in the body; empty where the body tells none
	EmailID string // as in the body; empty where the body has none that is a UUID
	Kind    Kind
	Body    []byte // never written to again: redeliveries share it
}

// Kind says what a webhook is, and so what its receiver should make of it.
type Kind uint8

const (
	// Genuine is a well-formed event of an outbound email, its first delivery.
	Genuine Kind = iota
	// Redelivery has the id and body of an earlier Genuine or Dirty webhook.
	Redelivery
	// Dirty is an event that counts although its texts can't be stored as they are:
	// NUL, invalid UTF-8, over-long links, an unreadable IP.
	Dirty
	// Unreadable is authentic, but no event can be made of it: a dead letter.
	Unreadable
	// Foreign is authentic, but of a type that isn't tracked: ignored.
	Foreign
	// Forged is signed with another secret: 401.
	Forged
	// Stale was signed with the right secret, but too long ago: 401.
	Stale

	kinds
)

func (k Kind) String() string {
	switch k {
	case Genuine:
		return "genuine"
	case Redelivery:
		return "redelivery"
	case Dirty:
		return "dirty"
	case Unreadable:
		return "unreadable"
	case Foreign:
		return "foreign"
	case Forged:
		return "forged"
	case Stale:
		return "stale"
	default:
		return "Kind(" + strconv.Itoa(int(k)) + ")"
	}
}

// Authentic tells whether a receiver should accept the signature: 2xx, not 401.
func (k Kind) Authentic() bool { return k != Forged && k != Stale }

// Counted reports whether the event belongs in the tally, once for each ID.
func (k Kind) Counted() bool { return k == Genuine || k == Redelivery || k == Dirty }
