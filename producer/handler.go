package producer

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider"
)

// Handler serves POST /webhooks/{provider} for each provider that has an endpoint, and
// nothing else. Doubled and trailing slashes make no difference. The server must limit the
// connections, the headers (MaxHeaderBytes) and the time to read them and the body
// (ReadTimeout). Its WriteTimeout must be longer than ReadTimeout and PublishTimeout
// together, or the provider never gets a late answer.
func (p *Producer) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, e := range p.endpoints {
		g := &gate{p, e, p.metrics.webhooks[e.Name()]}
		mux.HandleFunc("POST /webhooks/"+e.Name(), g.serve)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The mux would redirect a path such as //webhooks/resend to its clean form, and
		// a provider takes a redirect for a failure.
		clean := *r
		clean.URL = &url.URL{Path: path.Clean("/" + r.URL.EscapedPath())}
		mux.ServeHTTP(w, &clean)
	})
}

// gate receives one provider's webhooks.
type gate struct {
	*Producer
	endpoint provider.Endpoint
	webhooks map[result]prometheus.Counter
}

// serve answers a request:
//
//	200  all its events are on all in-sync replicas. Those that cannot be read, or are
//	     too large for their topic, are in the dead-letter topic: sent again they would
//	     be no better. Events of types that are not tracked are left out; there may be
//	     no events at all
//	401  nothing proves that the provider sent it, or sent it just now
//	408  its body did not arrive in time, or was cut off to make room for others
//	413  its body is larger than the provider's limit, or than Kafka's topics accept
//	503  Kafka did not acknowledge it in time, or too many proved requests wait for
//	     Kafka: send it again
//
// or with whatever other status makes its provider do the same. Each event is counted by
// its own result, and a request without events as ignored.
func (g *gate) serve(w http.ResponseWriter, r *http.Request) {
	room := share{of: &g.held}
	defer room.giveBack()
	c, refused := g.receive(w, r, &room)
	if refused == nil && len(c.records) > 0 {
		if err := g.store(c); err != nil {
			refused = notStored(err)
		}
	}
	if refused != nil {
		g.refuse(w, refused, max(1, len(c.records)))
		return
	}
	g.count(c)
	w.WriteHeader(http.StatusOK)
}

// refusal is an answer other than 200, and how it is counted.
type refusal struct {
	result result
	*provider.Refusal
}

// Not "unavailable", nor "unauthorized": anyone can omit a body, and nothing of it was
// checked.
func bodyMissing(cause error) *refusal {
	text := "the body did not arrive whole"
	if errors.Is(cause, errCutOff) {
		text = "the body did not arrive before others needed its room: send it again"
	}
	return &refusal{incomplete, &provider.Refusal{Status: http.StatusRequestTimeout, Text: text}}
}

// notStored answers for what Kafka did not acknowledge.
func notStored(cause error) *refusal {
	if errors.Is(cause, kerr.MessageTooLarge) {
		return &refusal{tooLarge, &provider.Refusal{Status: http.StatusRequestEntityTooLarge, Text: "larger than Kafka's topics accept (max.message.bytes)", Cause: cause}}
	}
	return sendAgain(cause)
}

func sendAgain(cause error) *refusal {
	return &refusal{unavailable, &provider.Refusal{Status: http.StatusServiceUnavailable, Text: "not stored: send it again", Cause: cause}}
}

// refusedBy converts a provider's refusal.
func refusedBy(err error) *refusal {
	var r *provider.Refusal
	switch {
	case !errors.As(err, &r):
		return sendAgain(err)
	case r.Status >= http.StatusInternalServerError:
		return &refusal{unavailable, r}
	case r.Status == http.StatusRequestEntityTooLarge:
		return &refusal{tooLarge, r}
	}
	return &refusal{unauthorized, r}
}

// refuse refuses a request; events is how many it holds, as far as is known.
func (g *gate) refuse(w http.ResponseWriter, r *refusal, events int) {
	g.webhooks[r.result].Add(float64(events))
	log := g.log.With("provider", g.endpoint.Name())
	if r.result == unavailable {
		w.Header().Set("Retry-After", "5")
		log.Warn("webhook answered 503: the provider sends it again", "reason", string(r.result), "error", r.Refusal)
	} else {
		log.Info("webhook refused", "reason", string(r.result), "error", r.Text)
	}
	if r.Challenge != "" {
		w.Header().Set("WWW-Authenticate", r.Challenge)
	}
	http.Error(w, r.Text, r.Status)
}

// content is what a request contains.
type content struct {
	receivedAt time.Time
	records    []*kgo.Record
	reasons    []tracking.Reason // why a record is a dead letter; empty if it is not one
	ignored    int               // events of types that are not tracked
}

// receive reads a request, has its provider authenticate it and split it into events, and
// builds their records. The memory that it keeps is reserved in room, once it is proved
// to be the provider's.
func (g *gate) receive(w http.ResponseWriter, r *http.Request, room *share) (*content, *refusal) {
	c := &content{receivedAt: g.now()}
	if err := g.endpoint.Admit(r.Header, c.receivedAt); err != nil {
		return c, refusedBy(err)
	}
	arrival := g.arriving.begin(interrupt(w))
	defer arrival.end()
	body, err := readBody(w, r, g.endpoint.Limit(), arrival)
	var overrun *http.MaxBytesError
	switch {
	case errors.As(err, &overrun):
		return c, &refusal{tooLarge, &provider.Refusal{Status: http.StatusRequestEntityTooLarge, Text: fmt.Sprintf("the body is larger than %d bytes", g.endpoint.Limit())}}
	case err != nil:
		return c, bodyMissing(err)
	}
	hooks, err := g.endpoint.Open(r.Context(), provider.Request{Header: r.Header, Body: body, ReceivedAt: c.receivedAt})
	if err != nil {
		return c, refusedBy(err)
	}
	for hook := range hooks {
		if hook.Drop != nil && hook.Drop.Reason == tracking.Untracked {
			c.ignored++
			continue
		}
		needs := int64(heldPerRecord)
		if len(c.records) == 0 {
			needs += int64(cap(body)) // which the records' values are parts of
		}
		if !room.grow(needs) {
			return c, sendAgain(errNoRoom)
		}
		g.add(c, &hook)
	}
	return c, nil
}

// add builds the record of an event.
func (g *gate) add(c *content, hook *provider.Webhook) {
	record := tracking.Record{Provider: g.endpoint.Name(), EventID: hook.EventID, SentAt: hook.SentAt, ReceivedAt: c.receivedAt, Value: hook.Value}
	topic, reason := g.topic, tracking.Reason("")
	if hook.Drop == nil {
		record.Key = []byte(hook.EmailID.String())
	} else {
		topic, reason = g.deadLetterTopic, hook.Drop.Reason
		record.DeadLetter = &tracking.DeadLetter{Reason: reason, Detail: hook.Drop.Detail}
	}
	c.records = append(c.records, kafkaRecord(topic, &record))
	c.reasons = append(c.reasons, reason)
}

func kafkaRecord(topic string, r *tracking.Record) *kgo.Record {
	pairs := r.Headers()
	headers := make([]kgo.RecordHeader, len(pairs))
	for i, h := range pairs {
		headers[i] = kgo.RecordHeader(h)
	}
	return &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Headers: headers}
}

// count counts the events, now that they are stored.
func (g *gate) count(c *content) {
	for i, reason := range c.reasons {
		if reason == "" {
			g.webhooks[accepted].Inc()
			continue
		}
		g.webhooks[malformed].Inc()
		r := c.records[i]
		g.log.Info("webhook dropped to the dead-letter topic", "provider", g.endpoint.Name(), "reason", string(reason),
			"topic", r.Topic, "partition", r.Partition, "offset", r.Offset)
	}
	if len(c.records) == 0 {
		c.ignored = max(1, c.ignored)
	}
	g.webhooks[ignored].Add(float64(c.ignored))
}
