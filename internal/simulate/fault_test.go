package simulate

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// faulty generates webhooks until it has n of the kind.
func faulty(t *testing.T, kind Kind, n int) []Webhook {
	t.Helper()
	g := NewGenerator(11, true, newClock().now)
	var ws []Webhook
	for range 1_000_000 {
		if w := g.Next(); w.Kind == kind {
			if ws = append(ws, w); len(ws) == n {
				return ws
			}
		}
	}
	t.Fatalf("%d %v webhooks of %d", len(ws), kind, n)
	return nil
}

// Each unreadable body breaks one of the rules for dropping events, and each rule is
// broken by some.
func TestUnreadableBodies(t *testing.T) {
	now := newClock().t
	why := make(map[string]int)
	for _, w := range faulty(t, Unreadable, 200) {
		var b body
		err := json.Unmarshal(w.Body, &b)
		_, badTime := err.(*time.ParseError)
		switch {
		case badTime:
			why["time"]++
		case err != nil && json.Valid(w.Body):
			why["no object"]++
		case err != nil:
			why["no JSON"]++
		case b.Type == "":
			why["no type"]++
		case b.Data.EmailID == "":
			why["no email id"]++
		case !uuid.MatchString(b.Data.EmailID):
			why["no UUID"]++
		case b.CreatedAt.After(now.AddDate(0, 0, 1)):
			why["future"]++
		case b.CreatedAt.Year() < 2000:
			why["past"]++
		default:
			t.Errorf("nothing wrong with %s", w.Body)
		}
		if err == nil && b.Type != w.Type || w.EmailID != "" && !uuid.MatchString(w.EmailID) {
			t.Errorf("type %q and email id %q of %s", w.Type, w.EmailID, w.Body)
		}
	}
	for _, reason := range []string{"time", "no object", "no JSON", "no type", "no email id", "no UUID", "future", "past"} {
		if why[reason] == 0 {
			t.Errorf("none for: %s", reason)
		}
	}
}

// Each dirty body is a readable click with something to clean.
func TestDirtyBodies(t *testing.T) {
	what := make(map[string]int)
	for _, w := range faulty(t, Dirty, 200) {
		var b body
		if err := json.Unmarshal(w.Body, &b); err != nil {
			t.Fatalf("%v\n%s", err, w.Body)
		}
		c := b.Data.Click
		if c == nil || b.Type != "email.clicked" || b.Data.EmailID != w.EmailID {
			t.Fatalf("not a click that counts: %s", w.Body)
		}
		_, badIP := netip.ParseAddr(c.IPAddress)
		switch {
		case strings.Contains(string(w.Body), `\u0000`):
			what["NUL"]++
		case !utf8.Valid(w.Body):
			what["UTF-8"]++
		case strings.Contains(string(w.Body), `\ud83d"`):
			what["surrogate"]++
		case len(c.Link) > 8<<10:
			what["link"]++
		case len(c.UserAgent) > 1<<10:
			what["user agent"]++
		case badIP != nil:
			what["IP"]++
		default:
			t.Errorf("nothing to mend in %s", w.Body)
		}
		if len(w.Body) > 256<<10 {
			t.Errorf("%d bytes: it would be refused", len(w.Body))
		}
	}
	if len(what) != 6 {
		t.Errorf("%v, want six sorts", what)
	}
}

func TestForeignBodies(t *testing.T) {
	types := make(map[string]int)
	for _, w := range faulty(t, Foreign, 100) {
		types[w.Type]++
		var b body
		if err := json.Unmarshal(w.Body, &b); err != nil || b.Type != w.Type || b.Data.EmailID != w.EmailID {
			t.Errorf("%v: %+v is not %s", err, w, w.Body)
		}
	}
	for _, typ := range []string{"contact.created", "domain.updated", "email.received", "email.some_future_type"} {
		if types[typ] == 0 {
			t.Errorf("no %s", typ)
		}
	}
}
