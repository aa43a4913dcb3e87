package main

import (
	"container/heap"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
)

// stream is n deliveries in the order of arrival, the same at every call with the same
// n except for the times: 3.2 events per email, 2.8 % of the deliveries repeated, and
// 16 clicks to 100 opens.
//
// How far apart the events of an email are decides how many of them meet in a batch,
// and so what a batch saves. The distance is measured in deliveries, which stand for
// seconds at a few thousand events a second. An email is delivered 2,000 to 30,000
// deliveries after it is sent, and opened up to a million later. So a batch of 5,000
// changes one row for every 1.1 events, one of 20,000 for every 1.4, as in a real day's
// traffic.
func stream(n int, now time.Time) []tracking.Event {
	s := newStreamer(streamPace, now.Add(-time.Hour))
	s.most = n
	return s.take(n)
}

// steady is n deliveries from the middle of a stream, where the mix no longer changes:
// up to the longest distance from an email to one of its clicks, a stream is mostly
// sent and delivered. A longer one starts with the same deliveries as a shorter one.
// Many are of emails that began earlier, and some are repeats whose original is not
// included.
func steady(n int, now time.Time) []tracking.Event {
	s := newStreamer(streamPace, now.Add(-time.Hour))
	for range 1_100_000 {
		s.next()
	}
	return s.take(n)
}

var streamPace = pace{200 * time.Microsecond, 1e6, 1e4, 1e6}

// pace is the spacing of a streamer's deliveries.
type pace struct {
	tick               time.Duration // from one delivery to the next
	openBefore         float64       // an open comes at most so many deliveries after its email's
	lateFrom, lateMost float64       // one repeat in five comes so many deliveries late
}

// streamer makes deliveries one after the other, and holds only those that are planned
// and not yet due.
type streamer struct {
	pace
	rng     *rand.Rand
	start   time.Time
	most    int // once so many are planned no further emails begin, if not 0
	planned int
	pending arrivals
}

func newStreamer(p pace, start time.Time) *streamer {
	return &streamer{pace: p, rng: rand.New(rand.NewPCG(1, 2)), start: start.UTC().Truncate(time.Second)}
}

// arrival is a delivery to come.
type arrival struct {
	due    float64 // in deliveries
	event  *tracking.Event
	repeat bool // of an event that came before
}

// delivered is the event with its own copies of its texts: so deliveries are in memory
// in the order in which they arrive, as a decoder leaves them, and not in the order in
// which they were planned, where each is a cache miss for whoever applies them.
func (a arrival) delivered() tracking.Event {
	e := *a.event
	e.EventID, e.Link = strings.Clone(e.EventID), strings.Clone(e.Link)
	return e
}

func (s *streamer) take(n int) []tracking.Event {
	events := make([]tracking.Event, n)
	for i := range events {
		events[i] = s.next().delivered()
	}
	return events
}

// next gives the next delivery.
func (s *streamer) next() arrival {
	// A new email begins when that many deliveries are planned: those due before can no
	// longer be overtaken.
	for (s.most == 0 || s.planned < s.most) && (len(s.pending) == 0 || s.pending[0].due >= float64(s.planned)) {
		s.email()
	}
	return heap.Pop(&s.pending).(arrival)
}

// arrivals is a heap, the next one due first.
type arrivals []arrival

func (a arrivals) Len() int           { return len(a) }
func (a arrivals) Less(i, j int) bool { return a[i].due < a[j].due }
func (a arrivals) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)        { *a = append(*a, x.(arrival)) }
func (a *arrivals) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	(*a)[last] = arrival{} // not held any longer
	*a = (*a)[:last]
	return x
}

// email plans all events of a new email.
func (s *streamer) email() {
	id := s.emailID()
	now := float64(s.planned)
	s.plan(id, tracking.Sent, now)
	now += s.between(2e3, 3e4)
	if s.rng.IntN(100) < 3 {
		s.plan(id, tracking.Bounced, now)
		return
	}
	s.plan(id, tracking.Delivered, now)
	if s.rng.IntN(100) < 40 {
		return // never opened
	}
	opens := 1
	for opens < 50 && s.rng.IntN(100) < 42 {
		opens++
	}
	for range opens {
		open := now + s.between(5e3, s.openBefore)
		s.plan(id, tracking.Opened, open)
		if s.rng.IntN(100) < 16 {
			s.plan(id, tracking.Clicked, open+s.between(2e3, 3e4))
		}
	}
}

// between draws a distance: each doubling is as likely as the previous one.
func (s *streamer) between(least, most float64) float64 {
	return least * math.Exp(s.rng.Float64()*math.Log(most/least))
}

func (s *streamer) plan(id uuid.UUID, typ tracking.Type, due float64) {
	e := s.event(id, typ, due)
	s.planned++
	heap.Push(&s.pending, arrival{due, &e, false})
	if s.rng.IntN(1000) < 29 { // most repeats come at once, others when somebody replays
		due += s.between(10, 1e4)
		if s.rng.IntN(5) == 0 {
			due += s.between(s.lateFrom, s.lateMost)
		}
		s.planned++
		heap.Push(&s.pending, arrival{due, &e, true})
	}
}

func (s *streamer) event(id uuid.UUID, typ tracking.Type, due float64) tracking.Event {
	var raw [24]byte
	for i := 0; i < len(raw); i += 8 {
		binary.BigEndian.PutUint64(raw[i:], s.rng.Uint64())
	}
	e := tracking.Event{
		EmailID: id,
		EventID: "msg_" + base64.RawURLEncoding.EncodeToString(raw[:])[:27], // as Svix's
		Type:    typ,
		OccurredAt: s.start.Add(time.Duration(due) * s.tick).
			Add(-time.Duration(s.rng.IntN(5e6)) * time.Microsecond), // up to 5 s ago: arrivals are not quite in order
	}
	if typ == tracking.Opened || typ == tracking.Clicked {
		e.IP = netip.AddrFrom4([4]byte{203, 0, 113, byte(s.rng.Uint32())})
		e.UserAgent = userAgents[s.rng.IntN(len(userAgents))]
	}
	if typ == tracking.Clicked {
		e.Link = fmt.Sprintf("https://www.example.com/newsletter/2026/%d?utm_source=newsletter&utm_medium=email", s.rng.IntN(200))
	}
	return e
}

// emailID is a random UUID, RFC 9562.
func (s *streamer) emailID() (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:], s.rng.Uint64())
	binary.BigEndian.PutUint64(id[8:], s.rng.Uint64())
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

var userAgents = []string{
	"Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
	"Mozilla/5.0",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
}
