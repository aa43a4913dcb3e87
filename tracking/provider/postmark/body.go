package postmark

import (
	"slices"
	"time"

	"github.com/go-faster/jx"
	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider"
)

// body holds the members of a body that are used, unescaped but not yet interpreted. A
// missing member is nil.
type body struct {
	recordType, messageID, recipient []byte

	// Each kind of event has its own name for the event's time.
	deliveredAt, receivedAt, bouncedAt []byte

	link, userAgent []byte // of opens and clicks
	geo             geo

	id, bounceType, description, details []byte // of bounces and complaints

	inbound bool // it is an inbound message

	content struct{ from, to int } // of bounces and complaints: where the body has the value of Content
}

type geo struct{ ip []byte }

// read finds the members in text.
func (b *body) read(text []byte) error {
	return provider.Object(text, func(d *jx.Decoder, name []byte) error {
		switch string(name) {
		case "RecordType":
			return provider.Text(d, &b.recordType)
		case "MessageID":
			return provider.Text(d, &b.messageID)
		case "Recipient", "Email": // bounces and complaints call it Email
			return provider.Text(d, &b.recipient)
		case "DeliveredAt":
			return provider.Literal(d, &b.deliveredAt)
		case "ReceivedAt":
			return provider.Literal(d, &b.receivedAt)
		case "BouncedAt":
			return provider.Literal(d, &b.bouncedAt)
		case "OriginalLink":
			return provider.Text(d, &b.link)
		case "UserAgent":
			return provider.Text(d, &b.userAgent)
		case "Geo":
			return provider.Members(d, &b.geo, b.geo.read)
		case "ID":
			return provider.Literal(d, &b.id)
		case "Type":
			return provider.Text(d, &b.bounceType)
		case "Description":
			return provider.Text(d, &b.description)
		case "Details":
			return provider.Text(d, &b.details)
		case "FromFull":
			b.inbound = true
		case "Content":
			value, err := d.Raw()
			if err == nil {
				// They share memory, so their capacities tell where it stands.
				b.content.from = cap(text) - cap(value)
				b.content.to = b.content.from + len(value)
			}
			return err
		}
		return d.Skip()
	})
}

func (g *geo) read(d *jx.Decoder, name []byte) error {
	if string(name) == "IP" {
		return provider.Text(d, &g.ip)
	}
	return d.Skip()
}

// route returns the event's type and the id of its email.
func (b *body) route() (_ tracking.Type, email uuid.UUID, derived bool, err error) {
	if b.recordType == nil {
		if b.inbound {
			return 0, email, false, &tracking.DropError{Reason: tracking.Untracked, Detail: "inbound mail"}
		}
		return 0, email, false, &tracking.DropError{Reason: tracking.NoType}
	}
	if string(b.recordType) == "Bounce" && b.bounceType == nil { // it could be one that is tracked
		return 0, email, false, &tracking.DropError{Reason: tracking.NoType, Detail: "a Bounce without Type"}
	}
	typ, tracked := typeOf(b.recordType, b.bounceType)
	if !tracked {
		detail := tracking.Clean(b.recordType, 64)
		if b.bounceType != nil {
			detail += "/" + tracking.Clean(b.bounceType, 64)
		}
		return 0, email, false, &tracking.DropError{Reason: tracking.Untracked, Detail: detail}
	}
	if len(b.messageID) == 0 {
		return 0, email, false, &tracking.DropError{Reason: tracking.NoEmailID, Type: typ}
	}
	email, derived = tracking.EmailID(Name, b.messageID)
	return typ, email, derived, nil
}

// Decode implements [provider.Provider].
func (Provider) Decode(r *tracking.Record, receivedAt time.Time) (tracking.Event, error) {
	var b body
	if err := b.read(r.Value); err != nil {
		return tracking.Event{}, err
	}
	typ, email, derived, err := b.route()
	if err != nil {
		return tracking.Event{}, err
	}
	e := tracking.Event{EmailID: email, EventID: b.eventID(), Type: typ}
	if derived {
		e.ProviderEmailID = tracking.Clean(b.messageID, tracking.MaxProviderEmailID)
	}
	switch typ {
	case tracking.Opened, tracking.Clicked:
		e.Link = tracking.Clean(b.link, tracking.MaxLink)
		e.UserAgent = tracking.Clean(b.userAgent, tracking.MaxUserAgent)
		e.IP = provider.IP(b.geo.ip)
	case tracking.Delivered:
	default:
		e.Reason = tracking.Clean(b.bounceType, tracking.MaxReason)
		e.Message = tracking.Clean(b.details, tracking.MaxMessage) // what the receiving server said
		if e.Message == "" {
			e.Message = tracking.Clean(b.description, tracking.MaxMessage)
		}
	}
	times := b.times()
	if err := provider.SetOccurredAt(&e, receivedAt, times[:]...); err != nil {
		return tracking.Event{}, err
	}
	return e, nil
}

// times are the body's times as Postmark wrote them, the event's own first: each kind of
// event has its own name for it, and so far no other time.
func (b *body) times() [4][]byte {
	own := b.receivedAt
	switch string(b.recordType) {
	case "Delivery":
		own = b.deliveredAt
	case "Bounce", "SpamComplaint":
		own = b.bouncedAt
	}
	return [...][]byte{own, b.deliveredAt, b.bouncedAt, b.receivedAt}
}

// eventID is the id of the bounce, which complaints have too. Other events have none and
// get a natural key: two opens, or two clicks on one link, by the same recipient within
// the 100 ns resolution of Postmark's clock count as one.
func (b *body) eventID() string {
	if isBounce := string(b.recordType) == "Bounce" || string(b.recordType) == "SpamComplaint"; isBounce && len(b.id) > 0 {
		return string(b.recordType) + "/" + string(b.id)
	}
	// Whether or not it is readable, or believed.
	var at []byte
	for _, text := range b.times() {
		if at = text; len(at) > 0 {
			break
		}
	}
	return provider.NaturalKey(b.recordType, at, b.recipient, b.link)
}

// withoutContent returns text unchanged, unless it is larger than a record may be: then
// the included message, which nothing here reads, becomes an empty string. Refusing it
// instead would lose every large bounce of a webhook that is set to include content.
func (b *body) withoutContent(text []byte) []byte {
	if len(text) <= provider.MaxValue || b.content.to == 0 {
		return text
	}
	return slices.Concat(text[:b.content.from], []byte(`""`), text[b.content.to:])
}
