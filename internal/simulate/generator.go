package simulate

import (
	"bytes"
	"container/heap"
	"encoding/hex"
	"math/bits"
	"math/rand/v2"
	"time"
)

const (
	// ringSize bounds how far back a redelivery can reach, and so its memory: some 3 MB
	// of bodies.
	ringSize = 4096

	// The shares, in ten thousandths of all webhooks.
	redeliveries     = 300
	forgeries        = 100
	staleWebhooks    = 20
	dirtyEvents      = 30
	unreadableBodies = 30
	foreignEvents    = 50
	whole            = 10_000

	// burstOdds: one open in so many makes its email hot.
	burstOdds          = 1500
	burstMin, burstMax = 50, 200
)

// Generator makes the webhooks of a sender of newsletters: 3.2 events per email, the
// events of many emails interleaved and sometimes out of order, three in a hundred
// webhooks redelivered, and now and then a very popular email. The distance between the
// events of an email is measured in webhooks, not in time, so the traffic has the same
// structure at every rate.
//
// Ids, types and order depend only on the seed; the times in the bodies come from the
// clock. It is not safe for concurrent use.
type Generator struct {
	rng       *rand.Rand
	now       func() time.Time
	faults    bool
	campaigns []campaign

	tick  uint64 // events so far
	queue eventQueue

	hot     *email // opened and clicked one after another while hotLeft > 0
	hotLeft int
	recent  *email // the last one opened: faults that need an email take it

	past  []Webhook // a ring
	count int       // of those ever put in

	buf []byte
}

// NewGenerator makes a generator. A seed of 0 means a random one; faults adds the kinds
// that the receiver has to refuse, drop, ignore or clean; now is the clock, time.Now if
// nil.
func NewGenerator(seed uint64, faults bool, now func() time.Time) *Generator {
	if seed == 0 {
		seed = newSeed()
	}
	if now == nil {
		now = time.Now
	}
	rng := rand.New(rand.NewPCG(seed, 0x6d61696c74616c6c)) // any constant will do
	return &Generator{
		rng:       rng,
		now:       now,
		faults:    faults,
		campaigns: newCampaigns(rng),
		past:      make([]Webhook, 0, ringSize),
	}
}

func newSeed() uint64 { return rand.Uint64N(1<<63) + 1 }

// Next returns the next webhook. It never ends.
func (g *Generator) Next() Webhook {
	roll := g.rng.Uint64N(whole)
	if roll < redeliveries {
		if g.count > 0 {
			return g.redelivery()
		}
		return g.event()
	}
	if g.faults && g.recent != nil {
		if kind, ok := faultAt(roll - redeliveries); ok {
			return g.fault(kind)
		}
	}
	return g.event()
}

func (g *Generator) redelivery() Webhook {
	stored := uint64(len(g.past))
	// Usually the provider redelivers at once; now and then somebody replays.
	reach := min(stored, 32)
	if g.rng.Uint64N(5) == 0 {
		reach = stored
	}
	back := 1 + g.rng.IntN(int(reach))
	w := g.past[(g.count-back)%ringSize]
	w.Kind = Redelivery
	return w
}

func (g *Generator) remember(w Webhook) {
	if len(g.past) < ringSize {
		g.past = append(g.past, w)
	} else {
		g.past[g.count%ringSize] = w
	}
	g.count++
}

// event returns the next event of some email.
func (g *Generator) event() Webhook {
	g.tick++
	var ev event
	if g.hotLeft > 0 {
		g.hotLeft--
		ev = event{typ: opened, email: g.hot}
		if g.rng.IntN(4) == 0 {
			ev.typ = clicked
		}
	} else {
		if len(g.queue) == 0 || g.queue[0].due > g.tick {
			g.startEmail()
		}
		ev = heap.Pop(&g.queue).(event)
		if ev.typ == opened && g.rng.IntN(burstOdds) == 0 {
			g.hot, g.hotLeft = ev.email, burstMin+g.rng.IntN(burstMax-burstMin+1)
		}
	}
	if ev.typ == opened {
		g.recent = ev.email
	}
	w := g.webhook(Genuine, ev)
	g.remember(w)
	return w
}

// startEmail plans all events of a new email. The first is due at once.
func (g *Generator) startEmail() {
	e := &email{
		id:       newUUID(g.rng),
		campaign: &g.campaigns[g.rng.IntN(len(g.campaigns))],
		reader:   g.rng.Uint64(),
		// Long enough ago for what has happened to it by now.
		created: g.now().Add(-settled - g.upTo(2*time.Second)),
	}
	if g.rng.IntN(10) == 0 { // a large broadcast is sent for some while
		e.created = e.created.Add(-g.upTo(time.Minute))
	}
	due := g.tick
	plan := func(typ eventType, after uint64) uint64 {
		heap.Push(&g.queue, event{due: due + after, typ: typ, email: e})
		return after
	}

	var at uint64
	if g.rng.IntN(100) < 3 {
		plan(scheduled, 0)
		at = 1 + g.rng.Uint64N(200)
	}
	outcome := g.rng.IntN(1000)
	switch {
	case outcome < 7:
		plan(suppressed, at)
		return
	case outcome < 12:
		plan(failed, at)
		return
	}
	plan(sent, at)
	at += 1 + g.rng.Uint64N(60)
	switch {
	case outcome < 30:
		plan(bounced, at)
		return
	case outcome < 45:
		plan(delayed, at)
		at = plan(deliveredLate, at+200+g.rng.Uint64N(2000))
	default:
		plan(delivered, at)
	}

	if g.rng.IntN(100) < 60 {
		open := at
		for i := range g.opens() {
			open += g.soonOrLater()
			if i == 0 && g.rng.IntN(20) == 0 {
				open = at - min(at, 1+g.rng.Uint64N(8)) // overtakes the delivery
			}
			plan(opened, open)
			if i == 0 && g.rng.IntN(100) < 12 {
				click := open
				for range 1 + g.rng.IntN(3)*g.rng.IntN(2) {
					click += 1 + g.rng.Uint64N(40)
					plan(clicked, click)
				}
			}
		}
	}
	if g.rng.IntN(1000) == 0 {
		plan(complained, at+g.soonOrLater())
	}
}

// opens draws how often an opened email is opened.
func (g *Generator) opens() int {
	switch n := g.rng.IntN(100); {
	case n < 70:
		return 1
	case n < 88:
		return 2
	case n < 97:
		return 3 + g.rng.IntN(3)
	default:
		return 6 + g.rng.IntN(15)
	}
}

// soonOrLater draws a distance in webhooks, from a few to some thousand; each doubling
// is as likely as the previous one.
func (g *Generator) soonOrLater() uint64 {
	scale := uint64(1) << (2 + g.rng.IntN(10))
	return scale + g.rng.Uint64N(scale)
}

// webhook writes the body of ev.
func (g *Generator) webhook(kind Kind, ev event) Webhook {
	at := g.timeOf(ev)
	id := newMessageID(g.rng)
	g.buf = appendBody(g.buf[:0], ev.email, ev.typ.String(), at, g.shape(), g.visit(ev, at))
	return Webhook{
		ID:      id,
		Type:    ev.typ.String(),
		EmailID: ev.email.id,
		Kind:    kind,
		Body:    bytes.Clone(g.buf),
	}
}

// settled is the age of an email at its first webhook: what the sender does is before
// that, what the reader does is after.
const settled = 3 * time.Second

// timeOf gives the event's own time, which does not follow the order of the webhooks:
// what the sender does is a few seconds after the email's creation, what the reader
// does is about now.
func (g *Generator) timeOf(ev event) time.Time {
	created := ev.email.created
	switch ev.typ {
	case scheduled:
		return created
	case sent:
		return created.Add(100*time.Millisecond + g.upTo(800*time.Millisecond))
	case delivered, bounced, failed, suppressed, delayed:
		return created.Add(time.Second + g.upTo(1900*time.Millisecond))
	}
	lag := g.upTo(2 * time.Second)
	if g.rng.IntN(20) == 0 {
		lag = g.upTo(2 * time.Minute)
	}
	at := g.now().Add(-lag)
	if first := created.Add(settled); at.Before(first) {
		return first
	}
	return at
}

func (g *Generator) shape() shape {
	n := g.rng.Uint64()
	return shape{
		typeLast:    n&7 == 0,
		micros:      n>>3&7 == 0,
		dataMicros:  n>>6&3 == 0,
		tagsAsArray: n>>8&7 == 0,
		openDetail:  n>>11&15 == 0,
		headers:     n>>15&31 == 0,
		variant:     n >> 20,
	}
}

func (g *Generator) visit(ev event, at time.Time) visit {
	n := g.rng.Uint64()
	reader := ev.email.reader
	if ev.email == g.hot || n%8 == 0 { // forwarded, or read elsewhere
		reader = n
	}
	links := ev.email.campaign.links
	return visit{
		at:        at,
		ip:        ipOf(bits.Reverse64(reader)),
		link:      links[(ev.email.reader%16+n>>8%3)%uint64(len(links))],
		userAgent: userAgentOf(reader >> 20),
	}
}

func (g *Generator) upTo(d time.Duration) time.Duration {
	return time.Duration(g.rng.Int64N(int64(d) + 1))
}

// newMessageID gives an id as Svix's: msg_ and 27 base62 characters.
func newMessageID(rng *rand.Rand) string {
	const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var id [31]byte
	copy(id[:], "msg_")
	var n uint64
	for i := range 27 {
		if i%9 == 0 { // a word has bits for ten characters
			n = rng.Uint64()
		}
		id[4+i] = base62[n%62]
		n /= 62
	}
	return string(id[:])
}

func newUUID(rng *rand.Rand) string {
	var u [16]byte
	a, b := rng.Uint64(), rng.Uint64()
	for i := range 8 {
		u[i], u[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	u[6] = u[6]&0x0f | 0x40 // version 4
	u[8] = u[8]&0x3f | 0x80 // variant of RFC 9562
	var s [36]byte
	hex.Encode(s[0:8], u[0:4])
	hex.Encode(s[9:13], u[4:6])
	hex.Encode(s[14:18], u[6:8])
	hex.Encode(s[19:23], u[8:10])
	hex.Encode(s[24:36], u[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}
