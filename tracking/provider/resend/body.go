package resend

import (
	"time"

	"github.com/go-faster/jx"
	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider"
)

// typeOf returns the Type for a webhook's "type"; false if it is not tracked. Not tracked
// are inbound mail (email.received, inbox.email.*: their email_id is another message's),
// events about a team rather than an email (contact.*, domain.*, suppression.*, topic.*),
// and every type that this version does not know, since Resend adds some each year.
// https://resend.com/docs/dashboard/webhooks/event-types
func typeOf(name []byte) (tracking.Type, bool) {
	switch string(name) {
	case "email.scheduled":
		return tracking.Scheduled, true
	case "email.sent":
		return tracking.Sent, true
	case "email.delivered":
		return tracking.Delivered, true
	case "email.delivery_delayed":
		return tracking.DeliveryDelayed, true
	case "email.opened":
		return tracking.Opened, true
	case "email.clicked":
		return tracking.Clicked, true
	case "email.bounced":
		return tracking.Bounced, true
	case "email.complained":
		return tracking.Complained, true
	case "email.failed":
		return tracking.Failed, true
	case "email.suppressed":
		return tracking.Suppressed, true
	}
	return 0, false
}

// Decode implements [provider.Provider]. The record's event id is the webhook's
// (svix-id).
//
// Fields may be in any order. Text that PostgreSQL cannot hold is repaired (NUL and
// invalid UTF-8 become U+FFFD) and overlong text is truncated; neither drops an event.
func (Provider) Decode(r *tracking.Record, receivedAt time.Time) (tracking.Event, error) {
	var b body
	if err := b.read(r.Value); err != nil {
		return tracking.Event{}, err
	}
	typ, emailID, err := b.route()
	if err != nil {
		return tracking.Event{}, err
	}
	if r.EventID == "" {
		return tracking.Event{}, &tracking.DropError{Reason: tracking.NoEventID, Type: typ}
	}

	e := tracking.Event{EmailID: emailID, EventID: r.EventID, Type: typ}
	data := &b.data
	var own []byte // an open or click has its own time, which is the event's
	switch typ {
	case tracking.Opened:
		own = data.open.into(&e)
	case tracking.Clicked:
		own = data.click.into(&e)
	case tracking.Bounced:
		e.Reason = tracking.Clean(bounceReason(data.bounce), tracking.MaxReason)
		e.Message = tracking.Clean(data.bounce.message, tracking.MaxMessage)
	case tracking.Failed:
		e.Reason = tracking.Clean(data.failed.reason, tracking.MaxReason)
	case tracking.Suppressed:
		e.Reason = tracking.Clean(data.suppressed.typ, tracking.MaxReason)
		e.Message = tracking.Clean(data.suppressed.message, tracking.MaxMessage)
	}
	// data.created_at is the email's, and would move a first open ahead of all others.
	if err := provider.SetOccurredAt(&e, receivedAt, own, b.createdAt); err != nil {
		return tracking.Event{}, err
	}
	return e, nil
}

// into fills in the link, user agent and address, and returns the time.
func (t *touch) into(e *tracking.Event) []byte {
	e.Link = tracking.Clean(t.link, tracking.MaxLink)
	e.UserAgent = tracking.Clean(t.userAgent, tracking.MaxUserAgent)
	e.IP = provider.IP(t.ip)
	return t.timestamp
}

// bounceReason is "type/subType", as in Permanent/Suppressed; older bodies have
// neither.
func bounceReason(t trouble) []byte {
	if t.subType == nil {
		return t.typ
	}
	return append(append(append([]byte(nil), t.typ...), '/'), t.subType...)
}

// body holds the fields of a body that are used, unescaped but not yet interpreted. A
// missing field is nil.
type body struct {
	typ, createdAt []byte
	data           data
}

type data struct {
	emailID []byte

	open, click                touch
	bounce, failed, suppressed trouble
}

// touch is data.open or data.click.
type touch struct{ timestamp, link, userAgent, ip []byte }

// trouble is data.bounce, data.failed or data.suppressed.
type trouble struct{ typ, subType, reason, message []byte }

// route returns the event's type and the id of its email.
func (r *body) route() (tracking.Type, uuid.UUID, error) {
	if r.typ == nil {
		return 0, uuid.UUID{}, &tracking.DropError{Reason: tracking.NoType}
	}
	typ, tracked := typeOf(r.typ)
	if !tracked {
		return 0, uuid.UUID{}, &tracking.DropError{Reason: tracking.Untracked, Detail: tracking.Clean(r.typ, 64)}
	}
	if r.data.emailID == nil {
		return 0, uuid.UUID{}, &tracking.DropError{Reason: tracking.NoEmailID, Type: typ}
	}
	id, derived := tracking.EmailID(Name, r.data.emailID)
	if derived {
		return 0, uuid.UUID{}, &tracking.DropError{Reason: tracking.BadEmailID, Type: typ, Detail: tracking.Clean(r.data.emailID, 64)}
	}
	return typ, id, nil
}

// read finds the fields in text.
func (r *body) read(text []byte) error {
	return provider.Object(text, func(d *jx.Decoder, name []byte) error {
		switch string(name) {
		case "type":
			return provider.Text(d, &r.typ)
		case "created_at":
			return provider.Literal(d, &r.createdAt)
		case "data":
			return provider.Members(d, &r.data, r.data.read)
		}
		return d.Skip()
	})
}

func (r *data) read(d *jx.Decoder, name []byte) error {
	switch string(name) {
	case "email_id":
		return provider.Text(d, &r.emailID)
	case "open":
		return provider.Members(d, &r.open, r.open.read)
	case "click":
		return provider.Members(d, &r.click, r.click.read)
	case "bounce":
		return provider.Members(d, &r.bounce, r.bounce.read)
	case "failed":
		return provider.Members(d, &r.failed, r.failed.read)
	case "suppressed":
		return provider.Members(d, &r.suppressed, r.suppressed.read)
	}
	return d.Skip()
}

func (t *touch) read(d *jx.Decoder, name []byte) error {
	switch string(name) {
	case "timestamp":
		return provider.Literal(d, &t.timestamp)
	case "link":
		return provider.Text(d, &t.link)
	case "userAgent":
		return provider.Text(d, &t.userAgent)
	case "ipAddress":
		return provider.Text(d, &t.ip)
	}
	return d.Skip()
}

func (t *trouble) read(d *jx.Decoder, name []byte) error {
	switch string(name) {
	case "type":
		return provider.Text(d, &t.typ)
	case "subType":
		return provider.Text(d, &t.subType)
	case "reason":
		return provider.Text(d, &t.reason)
	case "message":
		return provider.Text(d, &t.message)
	}
	return d.Skip()
}
