package simulate

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// clock is moved by the test.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newClock() *clock { return &clock{time.Date(2026, 11, 23, 12, 0, 0, 123_456_789, time.UTC)} }

func take(g *Generator, n int) []Webhook {
	ws := make([]Webhook, n)
	for i := range ws {
		ws[i] = g.Next()
	}
	return ws
}

func TestSeedDecidesAll(t *testing.T) {
	const n = 20_000
	a := take(NewGenerator(7, true, newClock().now), n)
	b := take(NewGenerator(7, true, newClock().now), n)
	moving := newClock()
	later := NewGenerator(7, true, func() time.Time { moving.t = moving.t.Add(time.Second); return moving.t })
	for i := range a {
		if a[i].ID != b[i].ID || a[i].Kind != b[i].Kind || !bytes.Equal(a[i].Body, b[i].Body) {
			t.Fatalf("webhook %d differs under one seed and clock:\n%+v\n%+v", i, a[i], b[i])
		}
		w := later.Next()
		if a[i].ID != w.ID || a[i].Kind != w.Kind || a[i].Type != w.Type || a[i].EmailID != w.EmailID {
			t.Fatalf("webhook %d depends on the clock:\n%+v\n%+v", i, a[i], w)
		}
	}
	if take(NewGenerator(8, true, newClock().now), 1)[0].ID == a[0].ID {
		t.Error("another seed, the same id")
	}
	one, two := NewGenerator(0, false, nil), NewGenerator(0, false, nil)
	if one.Next().ID == two.Next().ID {
		t.Error("seed 0 twice, the same id")
	}
}

// body is what a consumer reads. Nil pointers are missing fields.
type body struct {
	Type      string     `json:"type"`
	CreatedAt *time.Time `json:"created_at"`
	Data      *struct {
		EmailID   string     `json:"email_id"`
		CreatedAt *time.Time `json:"created_at"`
		From      string     `json:"from"`
		To        []string   `json:"to"`
		Subject   string     `json:"subject"`
		Click     *struct {
			IPAddress string    `json:"ipAddress"`
			Link      string    `json:"link"`
			Timestamp time.Time `json:"timestamp"`
			UserAgent string    `json:"userAgent"`
		} `json:"click"`
		Bounce     *struct{ Message string }
		Failed     *struct{ Reason string }
		Suppressed *struct{ Message, Type string }
	} `json:"data"`
}

var (
	messageID = regexp.MustCompile(`^msg_[0-9A-Za-z]{27}$`)
	uuid      = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
)

func TestGenuineBodies(t *testing.T) {
	c := newClock()
	g := NewGenerator(2, true, c.now)
	types := make(map[string]int)
	for range 30_000 {
		c.t = c.t.Add(20 * time.Millisecond) // at a rate of 50: ten minutes
		w := g.Next()
		if w.Kind != Genuine {
			continue
		}
		types[w.Type]++
		var b body
		if err := json.Unmarshal(w.Body, &b); err != nil {
			t.Fatalf("%v\n%s", err, w.Body)
		}
		fail := func(what string) { t.Helper(); t.Fatalf("%s\n%s", what, w.Body) }
		recently := func(at time.Time) bool {
			return !at.After(c.t) && at.After(c.t.Add(-3*time.Minute))
		}
		switch {
		case !messageID.MatchString(w.ID):
			fail("svix-id " + w.ID)
		case b.Type != w.Type || b.CreatedAt == nil || b.Data == nil || b.Data.EmailID != w.EmailID || b.Data.CreatedAt == nil:
			fail("missing or differing field")
		case !uuid.MatchString(w.EmailID):
			fail("email id")
		case !recently(*b.CreatedAt) || b.Data.CreatedAt.After(c.t):
			fail("not lately")
		// Not rounded alike, the two may be a millisecond apart.
		case b.CreatedAt.Before(b.Data.CreatedAt.Add(-time.Millisecond)):
			fail("the event is before its email")
		case b.Data.Subject == "" || !strings.HasSuffix(strings.TrimSuffix(b.Data.From, ">"), "@example.com"):
			fail("subject or sender")
		case len(b.Data.To) == 0:
			fail("no recipient")
		case (w.Type == "email.clicked") != (b.Data.Click != nil):
			fail("click")
		case (w.Type == "email.bounced") != (b.Data.Bounce != nil && b.Data.Bounce.Message != ""):
			fail("bounce")
		case (w.Type == "email.failed") != (b.Data.Failed != nil && b.Data.Failed.Reason != ""):
			fail("failed")
		case (w.Type == "email.suppressed") != (b.Data.Suppressed != nil && b.Data.Suppressed.Type != ""):
			fail("suppressed")
		}
		for _, to := range b.Data.To {
			if !strings.HasSuffix(to, "@example.com") {
				fail("recipient " + to)
			}
		}
		if click := b.Data.Click; click != nil {
			if _, err := netip.ParseAddr(click.IPAddress); err != nil {
				fail(err.Error())
			}
			if _, err := url.Parse(click.Link); err != nil {
				fail(err.Error())
			}
			if !recently(click.Timestamp) || click.UserAgent == "" {
				fail("click")
			}
		}
	}
	for typ := scheduled; typ <= complained; typ++ {
		if types[typ.String()] == 0 {
			t.Errorf("no %v", typ)
		}
	}
}

func TestMix(t *testing.T) {
	const n = 100_000
	kindsSeen := make(map[Kind]int)
	genuine := 0
	types := make(map[string]int)
	emails := make(map[string]int)
	opens := make(map[string]int)
	reached := make(map[string]bool)
	ids := make(map[string]bool)
	links := make(map[string]map[string]bool)
	for _, w := range take(NewGenerator(4, true, newClock().now), n) {
		kindsSeen[w.Kind]++
		if w.Kind != Redelivery {
			if ids[w.ID] {
				t.Fatalf("id %s twice, and no redelivery", w.ID)
			}
			ids[w.ID] = true
		}
		if w.Kind != Genuine {
			continue
		}
		genuine++
		types[w.Type]++
		emails[w.EmailID]++
		switch w.Type {
		case "email.delivered":
			reached[w.EmailID] = true
		case "email.opened":
			opens[w.EmailID]++
		case "email.clicked":
			var b body
			if err := json.Unmarshal(w.Body, &b); err != nil {
				t.Fatal(err)
			}
			if links[w.EmailID] == nil {
				links[w.EmailID] = make(map[string]bool)
			}
			links[w.EmailID][b.Data.Click.Link] = true
		}
	}

	within := func(what string, got, low, high float64) {
		t.Helper()
		if got < low || got > high {
			t.Errorf("%s: %.4f, want %v to %v", what, got, low, high)
		}
	}
	share := func(k Kind) float64 { return float64(kindsSeen[k]) / n }
	within("redelivered", share(Redelivery), .027, .033)
	within("forged", share(Forged), .008, .012)
	within("stale", share(Stale), .001, .003)
	within("dirty", share(Dirty), .002, .004)
	within("unreadable", share(Unreadable), .002, .004)
	within("foreign", share(Foreign), .004, .006)

	perEmail := func(typ string) float64 { return float64(types[typ]) / float64(len(emails)) }
	within("events an email", float64(genuine)/float64(len(emails)), 2.9, 3.5)
	within("scheduled", perEmail("email.scheduled"), .02, .04)
	within("sent", perEmail("email.sent"), .96, 1)
	within("delivered", perEmail("email.delivered"), .93, .98)
	within("delayed", perEmail("email.delivery_delayed"), .01, .02)
	within("bounced", perEmail("email.bounced"), .013, .023)
	within("failed", perEmail("email.failed"), .003, .008)
	within("suppressed", perEmail("email.suppressed"), .004, .01)
	within("complained", perEmail("email.complained"), .0005, .002)
	within("clicked", perEmail("email.clicked"), .08, .25)
	within("delivered emails opened", float64(len(opens))/float64(len(reached)), .55, .65)
	several, hot := 0, 0
	for _, n := range opens {
		if n >= 3 {
			several++
		}
		if n >= 40 {
			hot++
		}
	}
	within("opened several times", float64(several)/float64(len(opens)), .08, .16)
	within("hot emails", float64(hot), 8, 50)
	for id, l := range links {
		if len(l) > 3 {
			t.Fatalf("email %s has clicks on %d links", id, len(l))
		}
	}
}

func TestNoFaultsUnlessAsked(t *testing.T) {
	for _, w := range take(NewGenerator(4, false, nil), 20_000) {
		if w.Kind != Genuine && w.Kind != Redelivery {
			t.Fatalf("%v", w.Kind)
		}
	}
}

func TestRedeliveries(t *testing.T) {
	type first struct {
		at   int
		body []byte
	}
	firsts := make(map[string]first)
	soon, late := 0, 0
	for i, w := range take(NewGenerator(5, true, newClock().now), 50_000) {
		if w.Kind != Redelivery {
			if w.Kind.Counted() {
				firsts[w.ID] = first{i, w.Body}
			}
			continue
		}
		f, ok := firsts[w.ID]
		if !ok || !bytes.Equal(f.body, w.Body) {
			t.Fatalf("redelivery %s of nothing, or with another body", w.ID)
		}
		switch far := i - f.at; {
		case far <= 50:
			soon++
		case far > ringSize*5/4:
			t.Fatalf("%d back: the ring is to be bounded", far)
		case far > 500:
			late++
		}
	}
	if soon < 1000 || late < 150 {
		t.Errorf("%d soon, %d late", soon, late)
	}
}

// Emails are interleaved, opens overtake deliveries, and a hot email's events follow
// one another.
func TestDisorderAndBursts(t *testing.T) {
	delivered := make(map[string]bool)
	overtaken, opened, same := 0, 0, 0
	last, run, longest := "", 0, 0
	prev := ""
	const n = 100_000
	for _, w := range take(NewGenerator(6, false, newClock().now), n) {
		if w.EmailID == prev {
			same++
		}
		prev = w.EmailID
		if w.Kind == Redelivery {
			continue // may come between
		}
		if w.EmailID == last {
			run++
		} else {
			last, run = w.EmailID, 1
		}
		longest = max(longest, run)
		switch w.Type {
		case "email.delivered":
			delivered[w.EmailID] = true
		case "email.opened":
			opened++
			if !delivered[w.EmailID] {
				overtaken++
			}
		}
	}
	if share := float64(overtaken) / float64(opened); share < .01 || share > .1 {
		t.Errorf("%.4f of the opens came before their delivery", share)
	}
	if longest < burstMin || longest > burstMax+1 {
		t.Errorf("longest run of one email: %d", longest)
	}
	if share := float64(same) / n; share > .1 {
		t.Errorf("%.4f follow an event of the same email", share)
	}
}

// What the generator holds stays bounded, however long it runs.
func TestMemoryIsBounded(t *testing.T) {
	g := NewGenerator(9, true, newClock().now)
	for range 100_000 {
		g.Next()
		if len(g.queue) > 10_000 || len(g.past) > ringSize {
			t.Fatalf("%d planned, %d past", len(g.queue), len(g.past))
		}
	}
}

func BenchmarkGenerator(b *testing.B) {
	b.ReportAllocs()
	g := NewGenerator(1, true, nil)
	var size int64
	for b.Loop() {
		size += int64(len(g.Next().Body))
	}
	b.ReportMetric(float64(size)/float64(b.N), "bytes/webhook")
}
