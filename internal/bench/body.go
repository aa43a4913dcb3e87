package main

import (
	"strconv"
	"time"

	"github.com/mailtally/mailtally/tracking"
)

// resendBody is the webhook that Resend sends for an event of [stream]: fields
// and their order as in its documentation, and in all about a kilobyte, as with
// the headers and tags of a newsletter.
func resendBody(e *tracking.Event) []byte {
	id := e.EmailID.String()
	b := make([]byte, 0, 1536)
	add := func(parts ...string) {
		for _, part := range parts {
			b = append(b, part...)
		}
	}
	at := func(t time.Time) { b = t.UTC().AppendFormat(b, `"2006-01-02T15:04:05.000000Z"`) }

	add(`{"type":"email.`, e.Type.String(), `","created_at":`)
	at(e.OccurredAt)
	add(`,"data":{"broadcast_id":"8b146471-e88e-4322-86af-016cd36fd216","created_at":`)
	at(e.OccurredAt.Add(-time.Minute))
	add(`,"email_id":"`, id, `","message_id":"<`, id, `@email.example.com>","from":"Acme Weekly <news@example.com>","to":["reader.`, id[:8], `@example.com"]`)
	switch e.Type {
	case tracking.Opened, tracking.Clicked:
		if e.Type == tracking.Opened {
			add(`,"open":{"ipAddress":"`, e.IP.String(), `"`)
		} else {
			add(`,"click":{"ipAddress":"`, e.IP.String(), `","link":`, strconv.Quote(e.Link))
		}
		add(`,"timestamp":`)
		at(e.OccurredAt)
		add(`,"userAgent":`, strconv.Quote(e.UserAgent), `}`)
	case tracking.Bounced:
		add(`,"bounce":{"message":"The recipient's mail server refused the message.","subType":"General","type":"Permanent"}`)
	}
	add(`,"subject":"This week: what is new at Acme, and what comes next"`,
		`,"template_id":"43f68331-0622-4e15-8202-246a0388854b"`,
		`,"headers":[{"name":"List-Unsubscribe","value":"<https://www.example.com/unsubscribe?list=weekly&reader=`, id,
		`>, <mailto:unsubscribe@example.com?subject=`, id[:8], `>"},{"name":"List-Unsubscribe-Post","value":"List-Unsubscribe=One-Click"}`,
		`,{"name":"X-Entity-Ref-ID","value":"`, id[9:], `"}]`,
		`,"tags":{"category":"newsletter","campaign":"acme_weekly","environment":"production","tenant":"`, id[24:], `"}}}`)
	return b
}
