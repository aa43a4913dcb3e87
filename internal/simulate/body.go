package simulate

import (
	"net/netip"
	"strconv"
	"time"
)

// email is what all events of one email have in common.
type email struct {
	id       string
	created  time.Time
	campaign *campaign
	reader   uint64 // random bits: recipient, IP address and user agent follow from them
}

// shape is how one body is written. Resend's bodies differ in all of these.
type shape struct {
	typeLast    bool // "type" after "data"
	micros      bool // times as …894719+00:00, not …894Z; created_at at the top
	dataMicros  bool // the same in data
	tagsAsArray bool // [{"name":…,"value":…}], not an object
	openDetail  bool // an "open" object in email.opened
	headers     bool // a "headers" array
	variant     uint64
}

// visit is a click, or an open with details.
type visit struct {
	at        time.Time
	ip        string
	link      string
	userAgent string
}

// appendBody appends the event typ of e as Resend writes it, without white space. All
// random choices are the caller's: the same arguments give the same bytes.
func appendBody(b []byte, e *email, typ string, at time.Time, sh shape, v visit) []byte {
	b = append(b, '{')
	if !sh.typeLast {
		b = append(b, `"type":`...)
		b = appendString(b, typ)
		b = append(b, ',')
	}
	b = append(b, `"created_at":`...)
	b = appendTime(b, at, sh.micros)
	b = append(b, `,"data":`...)
	b = appendData(b, e, typ, sh, v)
	if sh.typeLast {
		b = append(b, `,"type":`...)
		b = appendString(b, typ)
	}
	return append(b, '}')
}

func appendData(b []byte, e *email, typ string, sh shape, v visit) []byte {
	c := e.campaign
	b = append(b, '{')
	if c.broadcastID != "" {
		b = append(b, `"broadcast_id":"`...)
		b = append(b, c.broadcastID...)
		b = append(b, `",`...)
	}
	b = append(b, `"created_at":`...)
	b = appendTime(b, e.created, sh.dataMicros)
	b = append(b, `,"email_id":"`...)
	b = append(b, e.id...)
	b = append(b, `","message_id":"<`...)
	b = append(b, e.id...)
	b = append(b, `@email.example.com>","from":`...)
	b = appendString(b, c.from)
	b = append(b, `,"to":[`...)
	b = appendRecipient(b, e.reader)
	if e.reader>>32%50 == 0 { // several recipients: their events come under one email id
		b = append(b, ',')
		b = appendRecipient(b, e.reader>>7)
	}
	b = append(b, ']')
	if typ == "email.clicked" {
		b = append(b, `,"click":`...)
		b = appendVisit(b, v, true)
	}
	b = append(b, `,"subject":`...)
	b = appendString(b, c.subject)
	if c.templateID != "" {
		b = append(b, `,"template_id":"`...)
		b = append(b, c.templateID...)
		b = append(b, '"')
	}
	if sh.headers {
		b = append(b, `,"headers":[{"name":"X-Entity-Ref-ID","value":"`...)
		b = append(b, e.id[:8]...)
		b = append(b, `"}]`...)
	}
	switch typ {
	case "email.opened":
		if sh.openDetail {
			b = append(b, `,"open":`...)
			b = appendVisit(b, v, false)
		}
	case "email.bounced":
		b = appendBounce(b, sh.variant)
	case "email.failed":
		b = append(b, `,"failed":{"reason":`...)
		b = appendString(b, failedReason(sh.variant))
		b = append(b, '}')
	case "email.suppressed":
		b = append(b, `,"suppressed":{"message":"recipient is on the account suppression list","type":"OnAccountSuppressionList"`...)
		if sh.variant%3 == 0 {
			b = append(b, `,"reason":"previous_bounce","diagnosticCode":["smtp; 550 5.1.1 user unknown"]`...)
		}
		b = append(b, '}')
	}
	if c.category != "" {
		b = appendTags(b, c.category, sh.tagsAsArray)
	}
	return append(b, '}')
}

func appendVisit(b []byte, v visit, click bool) []byte {
	b = append(b, `{"ipAddress":`...)
	b = appendString(b, v.ip)
	if click {
		b = append(b, `,"link":`...)
		b = appendString(b, v.link)
	}
	b = append(b, `,"timestamp":`...)
	b = appendTime(b, v.at, false)
	b = append(b, `,"userAgent":`...)
	b = appendString(b, v.userAgent)
	return append(b, '}')
}

func appendBounce(b []byte, variant uint64) []byte {
	message, subType, kind, diagnostic := bounceMessage(variant)
	b = append(b, `,"bounce":{"message":`...)
	b = appendString(b, message)
	if variant>>8%8 != 0 { // older bodies have the message alone
		b = append(b, `,"subType":`...)
		b = appendString(b, subType)
		b = append(b, `,"type":`...)
		b = appendString(b, kind)
		if diagnostic != "" {
			b = append(b, `,"diagnosticCode":[`...)
			b = appendString(b, diagnostic)
			b = append(b, ']')
		}
	}
	return append(b, '}')
}

func appendTags(b []byte, category string, asArray bool) []byte {
	if asArray {
		b = append(b, `,"tags":[{"name":"category","value":`...)
		b = appendString(b, category)
		return append(b, `},{"name":"env","value":"production"}]`...)
	}
	b = append(b, `,"tags":{"category":`...)
	b = appendString(b, category)
	return append(b, '}')
}

func appendRecipient(b []byte, reader uint64) []byte {
	b = append(b, '"')
	b = append(b, firstName(reader)...)
	b = append(b, '.')
	b = strconv.AppendUint(b, reader>>3%1_000_000, 10)
	return append(b, `@example.com"`...)
}

// ipOf gives an address from the ranges reserved for documentation, so that no
// simulated reader is a real person; a third are IPv6.
func ipOf(n uint64) string {
	if n%3 == 0 {
		ip := [16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8}
		for i := range 8 {
			ip[8+i] = byte(n >> (8 * i))
		}
		return netip.AddrFrom16(ip).String()
	}
	nets := [3][3]byte{{192, 0, 2}, {198, 51, 100}, {203, 0, 113}}
	net := nets[n>>8%3]
	return netip.AddrFrom4([4]byte{net[0], net[1], net[2], byte(n >> 16)}).String()
}

func appendTime(b []byte, t time.Time, micros bool) []byte {
	layout := `"2006-01-02T15:04:05.000Z"`
	if micros {
		layout = `"2006-01-02T15:04:05.000000-07:00"`
	}
	return t.UTC().AppendFormat(b, layout)
}

// appendString appends s as a JSON string as JavaScript's JSON.stringify does, which
// does not escape < > and &. Bytes that are not valid UTF-8 pass unchanged: [Dirty]
// bodies need them.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\t':
			b = append(b, `\t`...)
		case '\r':
			b = append(b, `\r`...)
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
