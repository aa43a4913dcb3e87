package tracking

import (
	"strconv"
	"time"
)

// Record is an event on its way from producer to consumer: the parts of a Kafka record,
// independent of the Kafka client. Only this file knows the names of its headers.
type Record struct {
	// Key is the email's id ([EmailID]) as text, so that all events of an email are in
	// one partition; nil if it could not be read.
	Key []byte
	// Value is the event as its provider sent it.
	Value []byte

	// Provider is the name of the provider that sent it.
	Provider string
	// EventID identifies the event to its provider, and is the same on every redelivery;
	// empty if it is in the value, or there is none.
	EventID string
	// SentAt is when the provider sent it, verbatim as authenticated; empty if it did not
	// say.
	SentAt string
	// ReceivedAt is when a producer received it; zero if unknown.
	ReceivedAt time.Time

	// Others are headers that are not mailtally's, or that it cannot read. They are kept
	// unchanged.
	Others []Header

	// DeadLetter is what a dead letter adds; nil for any other record. Without it, a
	// consumer's letter is the original record.
	DeadLetter *DeadLetter
}

// DeadLetter says why a record was set aside, and where it was.
type DeadLetter struct {
	Reason Reason
	// Detail is for people, and may quote the value.
	Detail string
	// Source is where the record was; nil if a producer set it aside.
	Source *Source
	// ValueOmitted, HeadersOmitted and KeyOmitted say why the letter lacks the value, some
	// or all headers, or the key that its record had: see [Record.Cut].
	ValueOmitted, HeadersOmitted, KeyOmitted string
}

// Source is a position in a topic. A negative number means unknown.
type Source struct {
	Topic     string
	Partition int32
	Offset    int64
}

// Header is a header of a Kafka record.
type Header struct {
	Key   string
	Value []byte
}

// The header names are a contract: others read and write the topics too.
const (
	headerProvider       = "provider"
	headerEventID        = "webhook-id"
	headerSentAt         = "webhook-timestamp"
	headerReceivedAt     = "received-at" // RFC 3339, with as many fractional digits as there are
	headerReason         = "reason"
	headerDetail         = "detail"
	headerTopic          = "source-topic"
	headerPartition      = "source-partition"
	headerOffset         = "source-offset"
	headerValueOmitted   = "value-omitted"
	headerHeadersOmitted = "headers-omitted"
	headerKeyOmitted     = "key-omitted"
)

// Headers encodes everything but key and value. Empty fields get no header, except reason
// and detail, which every dead letter has.
func (r *Record) Headers() []Header {
	headers := make([]Header, 0, 6+len(r.Others))
	text := make([]byte, 0, 256) // one allocation for all values, if they fit
	add := func(key, value string) {
		if value != "" {
			text = append(text, value...)
			headers = append(headers, Header{key, text[len(text)-len(value) : len(text) : len(text)]})
		}
	}
	addNumber := func(key string, n int64) {
		if n >= 0 {
			add(key, strconv.FormatInt(n, 10))
		}
	}
	add(headerProvider, r.Provider)
	add(headerEventID, r.EventID)
	add(headerSentAt, r.SentAt)
	if !r.ReceivedAt.IsZero() {
		from := len(text)
		text = r.ReceivedAt.UTC().AppendFormat(text, time.RFC3339Nano)
		headers = append(headers, Header{headerReceivedAt, text[from:len(text):len(text)]})
	}
	if d := r.DeadLetter; d != nil {
		headers = append(headers, Header{headerReason, []byte(d.Reason)}, Header{headerDetail, []byte(d.Detail)})
		if d.Source != nil {
			add(headerTopic, d.Source.Topic)
			addNumber(headerPartition, int64(d.Source.Partition))
			addNumber(headerOffset, d.Source.Offset)
		}
		add(headerValueOmitted, d.ValueOmitted)
		add(headerHeadersOmitted, d.HeadersOmitted)
		add(headerKeyOmitted, d.KeyOmitted)
	}
	return append(headers, r.Others...) // last, since the first of a repeated name counts
}

// ReadRecord decodes what a client got from Kafka; H is its type of a header.
func ReadRecord[H ~struct {
	Key   string
	Value []byte
}](key, value []byte, headers []H) Record {
	r := Record{Key: key, Value: value}
	for _, h := range headers {
		header := Header(h)
		r.SetHeader(header.Key, header.Value)
	}
	return r
}

// SetHeader decodes a header into r. Calling it with each header in turn reverses
// [Record.Headers]. If a name is repeated, the first one counts; repeated and unreadable
// headers are added to Others.
func (r *Record) SetHeader(key string, value []byte) {
	if !r.set(key, value) {
		r.Others = append(r.Others, Header{key, value})
	}
}

func (r *Record) set(key string, value []byte) bool {
	if len(value) == 0 && isOurs(key) {
		return true // the same as no header
	}
	switch key {
	case headerProvider:
		return setText(&r.Provider, value)
	case headerEventID:
		return setText(&r.EventID, value)
	case headerSentAt:
		return setText(&r.SentAt, value)
	case headerReceivedAt:
		var at time.Time
		if !r.ReceivedAt.IsZero() || at.UnmarshalText(value) != nil {
			return false
		}
		r.ReceivedAt = at
		return true
	case headerReason, headerDetail, headerTopic, headerPartition, headerOffset,
		headerValueOmitted, headerHeadersOmitted, headerKeyOmitted:
		if r.DeadLetter == nil {
			r.DeadLetter = new(DeadLetter)
		}
		return r.DeadLetter.set(key, value)
	}
	return false
}

func isOurs(key string) bool {
	switch key {
	case headerProvider, headerEventID, headerSentAt, headerReceivedAt,
		headerReason, headerDetail, headerTopic, headerPartition, headerOffset,
		headerValueOmitted, headerHeadersOmitted, headerKeyOmitted:
		return true
	}
	return false
}

func (d *DeadLetter) set(key string, value []byte) bool {
	switch key {
	case headerReason:
		return setText(&d.Reason, value)
	case headerDetail:
		return setText(&d.Detail, value)
	case headerValueOmitted:
		return setText(&d.ValueOmitted, value)
	case headerHeadersOmitted:
		return setText(&d.HeadersOmitted, value)
	case headerKeyOmitted:
		return setText(&d.KeyOmitted, value)
	}
	if d.Source == nil {
		d.Source = &Source{Partition: -1, Offset: -1}
	}
	switch key {
	case headerTopic:
		return setText(&d.Source.Topic, value)
	case headerPartition:
		n, err := strconv.ParseInt(string(value), 10, 32)
		return err == nil && setNumber(&d.Source.Partition, int32(n))
	default: // headerOffset
		n, err := strconv.ParseInt(string(value), 10, 64)
		return err == nil && setNumber(&d.Source.Offset, n)
	}
}

func setText[T ~string](to *T, value []byte) bool {
	if *to != "" {
		return false
	}
	*to = T(value)
	return true
}

func setNumber[T int32 | int64](to *T, n T) bool {
	if *to >= 0 || n < 0 {
		return false
	}
	*to = n
	return true
}
