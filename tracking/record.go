package tracking

import (
	"strconv"
	"time"
)

// Record is an event on its way from producer to consumer: the parts of a Kafka
// record, for whichever Kafka client carries them. Nothing else knows the names of
// its headers.
type Record struct {
	// Key is the text of the email's id ([EmailID]), so that all events of an email
	// are in one partition; nil where it could not be read.
	Key []byte
	// Value is the event as its provider wrote it.
	Value []byte

	// Provider is the name of the one that sent it.
	Provider string
	// EventID is what the provider tells its events apart by, the same on every
	// redelivery; empty where it is in the value, or nowhere.
	EventID string
	// SentAt is when the provider sent it, in the provider's own words, as they were
	// proved; empty where it did not say.
	SentAt string
	// ReceivedAt is when a producer received it; zero where nobody said.
	ReceivedAt time.Time

	// Others are headers that are not mailtally's, or that it cannot read. They are
	// kept as they are.
	Others []Header

	// DeadLetter is what a dead letter adds; nil for any other record. Without it a
	// consumer's letter is the record that it was.
	DeadLetter *DeadLetter
}

// DeadLetter says why a record was set aside, and where it was.
type DeadLetter struct {
	Reason Reason
	// Detail is for a person, and may quote the value.
	Detail string
	// Source is where the record was; nil for one that a producer set aside.
	Source *Source
	// ValueOmitted says why the letter has no value, though the record had one.
	ValueOmitted string
}

// Source is a place in a topic. A number below zero is not known.
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

// The names of the headers are a contract: others read and write the topics too.
const (
	headerProvider     = "provider"
	headerEventID      = "webhook-id"
	headerSentAt       = "webhook-timestamp"
	headerReceivedAt   = "received-at" // RFC 3339, with as many digits of the second as there are
	headerReason       = "reason"
	headerDetail       = "detail"
	headerTopic        = "source-topic"
	headerPartition    = "source-partition"
	headerOffset       = "source-offset"
	headerValueOmitted = "value-omitted"
)

// Headers encodes all but key and value. What is empty has no header, but for a dead
// letter's reason and detail, which each has.
func (r *Record) Headers() []Header {
	headers := make([]Header, 0, 6+len(r.Others))
	text := make([]byte, 0, 256) // all values are one piece of memory, if that suffices
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
	}
	return append(headers, r.Others...) // last, since of a name that is repeated the first counts
}

// SetHeader decodes a header into r; called with each in turn, it undoes
// [Record.Headers]. Where a name is repeated the first counts, and what is
// repeated or cannot be read joins the Others.
func (r *Record) SetHeader(key string, value []byte) {
	if !r.set(key, value) {
		r.Others = append(r.Others, Header{key, value})
	}
}

func (r *Record) set(key string, value []byte) bool {
	if len(value) == 0 && isOurs(key) {
		return true // it says no more than a header that is not there
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
	case headerReason, headerDetail, headerTopic, headerPartition, headerOffset, headerValueOmitted:
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
		headerReason, headerDetail, headerTopic, headerPartition, headerOffset, headerValueOmitted:
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
