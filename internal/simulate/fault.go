package simulate

import (
	"bytes"
	"strings"
	"time"
)

// faultAt maps the part of a roll that is reserved for faults to a kind.
func faultAt(roll uint64) (Kind, bool) {
	for _, share := range [...]struct {
		kind Kind
		size uint64
	}{
		{Forged, forgeries},
		{Stale, staleWebhooks},
		{Dirty, dirtyEvents},
		{Unreadable, unreadableBodies},
		{Foreign, foreignEvents},
	} {
		if roll < share.size {
			return share.kind, true
		}
		roll -= share.size
	}
	return Genuine, false
}

// fault makes a webhook that is not regular traffic. Each has its own id, so that a
// receiver which counts one that it should refuse is detected, not saved by its dedupe.
func (g *Generator) fault(kind Kind) Webhook {
	switch kind {
	case Dirty:
		w := g.dirty()
		g.remember(w)
		return w
	case Unreadable:
		return g.unreadable()
	case Foreign:
		return g.foreign()
	default:
		ev := event{typ: opened, email: g.recent}
		if g.rng.IntN(2) == 0 {
			ev.typ = clicked
		}
		return g.webhook(kind, ev)
	}
}

// dirty is a click that counts, with texts that PostgreSQL refuses or that should not
// be stored as they are.
func (g *Generator) dirty() Webhook {
	const surrogate = "\uFFFEsurrogate"
	ev := event{typ: clicked, email: g.recent}
	at := g.timeOf(ev)
	v := g.visit(ev, at)
	switch g.rng.IntN(6) {
	case 0:
		v.link += "?q=a\x00b"
		v.userAgent = "\x00" + v.userAgent
	case 1: // raw Latin-1
		v.link += "?q=caf\xe9"
		v.userAgent += " \xff\xfe"
	case 2: // an emoji that JavaScript has cut in two
		v.userAgent += surrogate
	case 3:
		v.link += "?token=" + strings.Repeat("0123456789abcdef", 600+g.rng.IntN(2000))
	case 4:
		v.userAgent += strings.Repeat(" (compatible; bot)", 100+g.rng.IntN(100))
	default:
		v.ip = "unknown"
	}
	id := newMessageID(g.rng)
	body := appendBody(nil, ev.email, ev.typ.String(), at, g.shape(), v)
	body = bytes.ReplaceAll(body, []byte(surrogate), []byte(`\ud83d`))
	return Webhook{ID: id, Type: ev.typ.String(), EmailID: ev.email.id, Kind: Dirty, Body: body}
}

// unreadable is an open with one defect that no retry can fix.
func (g *Generator) unreadable() Webhook {
	e, at := g.recent, g.now()
	w := Webhook{ID: newMessageID(g.rng), Type: opened.String(), EmailID: e.id, Kind: Unreadable}
	// The shape has no "open" object: created_at is the event's only time.
	body := func() []byte { return appendBody(nil, e, opened.String(), at, shape{}, visit{}) }
	replace := func(old, with string) []byte {
		return bytes.Replace(body(), []byte(old), []byte(with), 1)
	}
	emailID := `"email_id":"` + e.id + `",`
	createdAt := `"created_at":` + string(appendTime(nil, at, false)) + `,`
	switch g.rng.IntN(9) {
	case 0: // cut short
		w.Type, w.EmailID = "", ""
		w.Body = body()
		w.Body = w.Body[:1+g.rng.IntN(len(w.Body)-1)]
	case 1: // not JSON
		w.Type, w.EmailID = "", ""
		w.Body = []byte("event=opened&email_id=" + e.id)
	case 2: // JSON, but not an object
		w.Type, w.EmailID = "", ""
		w.Body = append(append([]byte{'['}, body()...), ']')
	case 3:
		w.EmailID = ""
		w.Body = replace(emailID, "")
	case 4:
		w.EmailID = ""
		w.Body = replace(emailID, `"email_id":"not-a-uuid",`)
	case 5:
		at = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
		w.Body = body()
	case 6:
		at = time.Time{} // year 1
		w.Body = body()
	case 7:
		w.Body = replace(createdAt, `"created_at":"yesterday",`)
	default:
		w.Type = ""
		w.Body = replace(`"type":"email.opened",`, "")
	}
	return w
}

// foreign is of a type that isn't tracked.
func (g *Generator) foreign() Webhook {
	w := Webhook{ID: newMessageID(g.rng), Kind: Foreign}
	now := g.now()
	created := string(appendTime(nil, now, false))
	id := newUUID(g.rng)
	switch g.rng.IntN(4) {
	case 0:
		w.Type = "contact.created"
		w.Body = []byte(`{"type":"contact.created","created_at":` + created +
			`,"data":{"id":"` + id + `","created_at":` + created + `,"updated_at":` + created +
			`,"email":"ada.1@example.com","first_name":"Ada","last_name":"L","unsubscribed":false}}`)
	case 1:
		w.Type = "domain.updated"
		w.Body = []byte(`{"type":"domain.updated","created_at":` + created +
			`,"data":{"id":"` + id + `","name":"example.com","status":"not_started","created_at":` + created +
			`,"region":"us-east-1","records":[{"record":"SPF","name":"send","type":"TXT","ttl":"Auto","value":"\"v=spf1 include:example.net ~all\""}]}}`)
	case 2: // the id is that of an inbound message
		w.Type, w.EmailID = "email.received", id
		w.Body = []byte(`{"type":"email.received","created_at":` + created +
			`,"data":{"email_id":"` + id + `","created_at":` + created +
			`,"from":"Ada <ada.1@example.com>","to":["inbox@example.com"],"bcc":[],"cc":[],"message_id":"<` + id +
			`@mail.example.com>","subject":"Re: Your receipt","attachments":[]}}`)
	default:
		w.Type, w.EmailID = "email.some_future_type", g.recent.id
		w.Body = appendBody(nil, g.recent, w.Type, now, g.shape(), visit{})
	}
	return w
}
