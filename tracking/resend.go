package tracking

import (
	"errors"
	"io"
	"time"

	"github.com/go-faster/jx"
	"github.com/google/uuid"
)

// Resend is the provider's name: in the webhook's path, in record headers and
// in metric labels.
const Resend = "resend"

// resendType gives the Type of a Resend webhook's "type"; false for one that is
// not tracked. Not tracked are, by name, inbound mail (email.received,
// inbox.email.*: their email_id is another message's) and what concerns a team
// rather than an email (contact.*, domain.*, suppression.*, topic.*); and every
// type this version does not know, as Resend adds some each year.
// https://resend.com/docs/dashboard/webhooks/event-types
func resendType(name []byte) (Type, bool) {
	switch string(name) {
	case "email.scheduled":
		return Scheduled, true
	case "email.sent":
		return Sent, true
	case "email.delivered":
		return Delivered, true
	case "email.delivery_delayed":
		return DeliveryDelayed, true
	case "email.opened":
		return Opened, true
	case "email.clicked":
		return Clicked, true
	case "email.bounced":
		return Bounced, true
	case "email.complained":
		return Complained, true
	case "email.failed":
		return Failed, true
	case "email.suppressed":
		return Suppressed, true
	}
	return 0, false
}

// RouteResend reads so much of a Resend body as a producer needs: whether it is
// tracked, and whose email it is about. The error is a *[DropError].
// It is safe for concurrent use, as is [DecodeResend].
func RouteResend(body []byte) (Type, uuid.UUID, error) {
	var r resendBody
	if err := r.read(body); err != nil {
		return 0, uuid.UUID{}, err
	}
	return r.route()
}

// DecodeResend decodes a Resend webhook. eventID is the webhook's id
// (svix-id), receivedAt bounds the event's time. The error is a *[DropError].
//
// Fields may stand in any order; where a name is repeated the last one counts.
// Text that PostgreSQL cannot hold is mended (NUL and invalid UTF-8 become
// U+FFFD) and over-long text is cut; neither drops an event.
func DecodeResend(eventID string, receivedAt time.Time, body []byte) (Event, error) {
	var r resendBody
	if err := r.read(body); err != nil {
		return Event{}, err
	}
	typ, emailID, err := r.route()
	if err != nil {
		return Event{}, err
	}
	if eventID == "" {
		return Event{}, &DropError{Reason: NoEventID, Type: typ}
	}

	e := Event{EmailID: emailID, EventID: eventID, Type: typ}
	var at time.Time
	var readable bool
	switch typ {
	case Opened:
		at, readable = r.open.into(&e)
	case Clicked:
		at, readable = r.click.into(&e)
	case Bounced:
		e.Reason = clean(bounceReason(r.trouble), MaxReason)
		e.Message = clean(r.trouble.message, MaxMessage)
	case Failed:
		e.Reason = clean(r.trouble.reason, MaxReason)
	case Suppressed:
		e.Reason = clean(r.trouble.typ, MaxReason)
		e.Message = clean(r.trouble.message, MaxMessage)
	}
	// An open's or click's own time is the event's; without one, and for all other
	// types, the envelope's is.
	if !readable {
		at, readable = parseTime(r.createdAt)
	}
	if !readable {
		return Event{}, &DropError{Reason: BadTime, Type: typ, Detail: clean(r.createdAt, 64)}
	}
	if at.Before(minOccurredAt) || at.After(receivedAt.Add(maxAhead)) {
		return Event{}, &DropError{Reason: TimeOutOfRange, Type: typ, Detail: at.Format(time.RFC3339Nano)}
	}
	e.OccurredAt = at
	return e, nil
}

// into fills in who touched the email, and gives the time if it can be read.
func (t *touch) into(e *Event) (time.Time, bool) {
	e.Link = clean(t.link, MaxLink)
	e.UserAgent = clean(t.userAgent, MaxUserAgent)
	e.IP = parseIP(t.ip)
	return parseTime(t.timestamp)
}

// bounceReason is "type/subType", as in Permanent/Suppressed; older bodies have
// neither.
func bounceReason(t trouble) []byte {
	if t.subType == nil {
		return t.typ
	}
	return append(append(append([]byte(nil), t.typ...), '/'), t.subType...)
}

// resendBody holds the fields of a body that are read, unescaped but not yet
// understood. A field that is missing is nil.
type resendBody struct {
	typ, createdAt, emailID []byte

	open, click touch
	trouble     trouble
}

// touch is data.open or data.click.
type touch struct{ timestamp, link, userAgent, ip []byte }

// trouble is data.bounce, data.failed or data.suppressed.
type trouble struct{ typ, subType, reason, message []byte }

func (r *resendBody) route() (Type, uuid.UUID, error) {
	if r.typ == nil {
		return 0, uuid.UUID{}, &DropError{Reason: NoType}
	}
	typ, tracked := resendType(r.typ)
	if !tracked {
		return 0, uuid.UUID{}, &DropError{Reason: Untracked, Detail: clean(r.typ, 64)}
	}
	if r.emailID == nil {
		return 0, uuid.UUID{}, &DropError{Reason: NoEmailID, Type: typ}
	}
	id, err := uuid.ParseBytes(r.emailID)
	if err != nil {
		return 0, uuid.UUID{}, &DropError{Reason: BadEmailID, Type: typ, Detail: clean(r.emailID, 64)}
	}
	return typ, id, nil
}

// read finds the fields in body. A field of another JSON type than expected is
// passed over as if it were missing: only the few that identify an event can
// drop it.
func (r *resendBody) read(body []byte) error {
	d := jx.DecodeBytes(body)
	if d.Next() != jx.Object {
		return &DropError{Reason: NotJSON, Detail: "not a JSON object"}
	}
	err := d.ObjBytes(func(d *jx.Decoder, key []byte) error {
		switch string(key) {
		case "type":
			return readString(d, &r.typ)
		case "created_at":
			return readString(d, &r.createdAt)
		case "data":
			return readObject(d, r.readData)
		}
		return d.Skip()
	})
	if err != nil {
		return &DropError{Reason: NotJSON, Detail: rootCause(err).Error()}
	}
	if d.Skip() != io.EOF {
		return &DropError{Reason: NotJSON, Detail: "more follows the object"}
	}
	return nil
}

func (r *resendBody) readData(d *jx.Decoder, key []byte) error {
	switch string(key) {
	case "email_id":
		return readString(d, &r.emailID)
	case "open":
		return readObject(d, r.open.read)
	case "click":
		return readObject(d, r.click.read)
	case "bounce", "failed", "suppressed":
		return readObject(d, r.trouble.read)
	}
	return d.Skip()
}

func (t *touch) read(d *jx.Decoder, key []byte) error {
	switch string(key) {
	case "timestamp":
		return readString(d, &t.timestamp)
	case "link":
		return readString(d, &t.link)
	case "userAgent":
		return readString(d, &t.userAgent)
	case "ipAddress":
		return readString(d, &t.ip)
	}
	return d.Skip()
}

func (t *trouble) read(d *jx.Decoder, key []byte) error {
	switch string(key) {
	case "type":
		return readString(d, &t.typ)
	case "subType":
		return readString(d, &t.subType)
	case "reason":
		return readString(d, &t.reason)
	case "message":
		return readString(d, &t.message)
	}
	return d.Skip()
}

func readObject(d *jx.Decoder, field func(*jx.Decoder, []byte) error) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return d.ObjBytes(field)
}

func readString(d *jx.Decoder, to *[]byte) error {
	if d.Next() != jx.String {
		return d.Skip()
	}
	s, err := d.StrBytes()
	*to = s
	return err
}

// rootCause is the innermost error: the decoder wraps one layer a nesting
// level, which is long for what is nested deeply, and says nothing.
func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
