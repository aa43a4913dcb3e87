package tracking

import "fmt"

// Reason says why an event was not counted. The set is closed: it labels metrics and dead
// letters.
type Reason string

// The reasons.
const (
	NotJSON        Reason = "not_json"          // the body is not a JSON object
	NoType         Reason = "no_type"           // no "type", or not a string
	Untracked      Reason = "untracked_type"    // a type that is not counted: ignored by a producer, dropped by a consumer
	NoEmailID      Reason = "no_email_id"       // no email id
	BadEmailID     Reason = "bad_email_id"      // an email id that is not a UUID
	NoEventID      Reason = "no_event_id"       // no webhook id came with the body
	BadTime        Reason = "bad_time"          // no readable event time
	TimeOutOfRange Reason = "time_out_of_range" // none but before the year 2000, or more than a day ahead of its receipt
	NoProvider     Reason = "no_provider"       // the record names no known provider
	Refused        Reason = "refused"           // PostgreSQL refuses the row for good
	TooLarge       Reason = "too_large"         // the topic accepts no record of that size; a producer's
)

// Reasons lists every reason.
func Reasons() []Reason {
	return []Reason{NotJSON, NoType, Untracked, NoEmailID, BadEmailID, NoEventID, BadTime, TimeOutOfRange, NoProvider, Refused, TooLarge}
}

// DropError is the error for a body that cannot be counted. Decoding it again gives the
// same error, so retrying is pointless.
type DropError struct {
	Reason Reason
	// Type is the event's type, if it could be read.
	Type Type
	// Detail is for people. It may quote the body, so it belongs in a dead letter, never
	// in a log.
	Detail string
}

func (e *DropError) Error() string {
	if e.Detail == "" {
		return string(e.Reason)
	}
	return fmt.Sprintf("%s: %s", e.Reason, e.Detail)
}
