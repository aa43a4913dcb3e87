package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/mailtally/mailtally/tracking"
)

// webhookKey signs webhooks. Anybody may know it.
const webhookKey = "a secret of the benchmark's own"

// resendBody is the webhook that Resend sends for an event of [stream]: the fields and
// their order are as in its documentation, and with the headers and tags of a
// newsletter it has about a kilobyte.
func resendBody(e *tracking.Event) []byte {
	const layout = "2006-01-02T15:04:05.000000Z"
	id, at := e.EmailID.String(), e.OccurredAt.UTC().Format(layout)
	detail := ""
	switch e.Type {
	case tracking.Opened:
		detail = fmt.Sprintf(`,"open":{"ipAddress":"%s","timestamp":"%s","userAgent":%q}`, e.IP, at, e.UserAgent)
	case tracking.Clicked:
		detail = fmt.Sprintf(`,"click":{"ipAddress":"%s","link":%q,"timestamp":"%s","userAgent":%q}`, e.IP, e.Link, at, e.UserAgent)
	case tracking.Bounced:
		detail = `,"bounce":{"message":"The recipient's mail server refused the message.","subType":"General","type":"Permanent"}`
	}
	return fmt.Appendf(make([]byte, 0, 1536), `{"type":"email.%s","created_at":"%s","data":{"broadcast_id":"8b146471-e88e-4322-86af-016cd36fd216","created_at":"%s"`+
		`,"email_id":"%[4]s","message_id":"<%[4]s@email.example.com>","from":"Acme Weekly <news@example.com>","to":["reader.%[5]s@example.com"]%[6]s`+
		`,"subject":"This week: what is new at Acme, and what comes next","template_id":"43f68331-0622-4e15-8202-246a0388854b"`+
		`,"headers":[{"name":"List-Unsubscribe","value":"<https://www.example.com/unsubscribe?list=weekly&reader=%[4]s>, <mailto:unsubscribe@example.com?subject=%[5]s>"}`+
		`,{"name":"List-Unsubscribe-Post","value":"List-Unsubscribe=One-Click"},{"name":"X-Entity-Ref-ID","value":"%[7]s"}]`+
		`,"tags":{"category":"newsletter","campaign":"acme_weekly","environment":"production","tenant":"%[8]s"}}}`,
		e.Type, at, e.OccurredAt.Add(-time.Minute).UTC().Format(layout), id, id[:8], detail, id[9:], id[24:])
}

// appendWebhook appends an event's webhook as it is sent, signed now. The signature is
// valid for five minutes.
func appendWebhook(b []byte, addr string, e *tracking.Event, now time.Time) []byte {
	body := resendBody(e)
	mac := hmac.New(sha256.New, []byte(webhookKey))
	fmt.Fprintf(mac, "%s.%d.%s", e.EventID, now.Unix(), body)
	signature := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return fmt.Appendf(b, "POST /webhooks/resend HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nContent-Type: application/json\r\n"+
		"User-Agent: Svix-Webhooks/1.62.0\r\nSvix-Id: %s\r\nSvix-Timestamp: %d\r\nSvix-Signature: v1,%s\r\n\r\n%s",
		addr, len(body), e.EventID, now.Unix(), signature, body)
}

// prepared returns webhooks that are written in advance, sent in turn and then again
// from the first: a producer does not mind.
func (p *process) prepared(events []tracking.Event) func(int, time.Time) []byte {
	now := time.Now()
	// One allocation, so that the collector has nothing to scan.
	var all []byte
	starts := []int{0}
	for i := range events {
		all = appendWebhook(all, p.addr, &events[i], now)
		starts = append(starts, len(all))
	}
	return func(i int, _ time.Time) []byte { return all[starts[i%len(events)]:starts[i%len(events)+1]] }
}

// due returns webhooks that are written when they are due, which is also the event's
// time (of its first delivery, if there are several).
func (p *process) due(events []tracking.Event) func(int, time.Time) []byte {
	first := make(map[string]time.Time, len(events))
	var request []byte
	return func(i int, due time.Time) []byte {
		e := &events[i]
		if first[e.EventID].IsZero() {
			first[e.EventID] = due
		}
		e.OccurredAt = first[e.EventID]
		request = appendWebhook(request[:0], p.addr, e, due)
		return request
	}
}
