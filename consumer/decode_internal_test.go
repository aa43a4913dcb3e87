package consumer

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider"
	"github.com/mailtally/mailtally/tracking/provider/all"
)

// All that is kept of a record counts: key, headers and ids, for as long as they are kept.
// A long id is not kept.
func TestDecode_AllThatIsKeptCounts(t *testing.T) {
	t.Parallel()
	c := &Consumer{providers: make(map[string]provider.Provider)}
	for _, p := range all.Providers() {
		c.providers[p.Name()] = p
	}
	const long = 900_000
	text := func() []byte { return []byte(strings.Repeat("x", long)) }
	good := []byte(`{"type":"email.opened","created_at":"2026-03-01T12:00:00Z","data":{"email_id":"56761188-7520-42d8-8898-ff6fc54ce618"}}`)
	headers := func(id []byte) []kgo.RecordHeader {
		return []kgo.RecordHeader{{Key: "provider", Value: []byte("resend")}, {Key: "webhook-id", Value: id}}
	}
	for name, r := range map[string]*kgo.Record{
		"id":     {Value: good, Headers: headers(text())},
		"key":    {Value: good, Headers: headers([]byte("msg_1")), Key: text()},
		"header": {Value: good, Headers: append(headers([]byte("msg_1")), kgo.RecordHeader{Key: "trace", Value: text()})},
		"name":   {Value: good, Headers: append(headers([]byte("msg_1")), kgo.RecordHeader{Key: string(text())})},
		"bad":    {Value: []byte("no JSON"), Headers: headers(text())},
	} {
		r.Timestamp = time.Now()
		for _, keep := range []bool{false, true} {
			i := c.newItem(r, new(tracking.Record), keep)
			if (i.why != nil) != (name == "bad") {
				t.Fatalf("%s: %v", name, i.why)
			}
			if len(i.event.EventID) > 300 {
				t.Errorf("%s: an id of %d bytes is kept", name, len(i.event.EventID))
			}
			if isHeld := i.held() >= long; isHeld != (i.record != nil) {
				t.Errorf("%s: held is %d, and the record is kept: %t", name, i.held(), i.record != nil)
			}
			if k := i.record; k != nil && (&k.Value[0] == &r.Value[0] || &k.Headers[0] == &r.Headers[0] || &k.Headers[1].Value[0] == &r.Headers[1].Value[0]) {
				t.Errorf("%s: the whole batch is kept with the record", name)
			}
			if i.bytes < long {
				t.Errorf("%s: a record of more than %d bytes counts as %d in a transaction", name, long, i.bytes)
			}
		}
	}
}
