package tracking

import "fmt"

// Reason says why an event was not counted. The set is closed: it labels
// metrics and heads dead letters.
type Reason string

// The reasons.
const (
	NotJSON        Reason = "not_json"          // the body is no JSON object
	NoType         Reason = "no_type"           // no "type", or no string
	Untracked      Reason = "untracked_type"    // a type that is not counted: ignored where it comes in, dropped from a topic
	NoEmailID      Reason = "no_email_id"       // no email id
	BadEmailID     Reason = "bad_email_id"      // an email id that is no UUID
	NoEventID      Reason = "no_event_id"       // no webhook id came with the body
	BadTime        Reason = "bad_time"          // no readable event time
	TimeOutOfRange Reason = "time_out_of_range" // before the year 2000, or more than a day ahead of its receipt
	NoProvider     Reason = "no_provider"       // a record that names no provider known here
	Refused        Reason = "refused"           // PostgreSQL refuses the row for good
)

// Reasons lists every reason.
func Reasons() []Reason {
	return []Reason{NotJSON, NoType, Untracked, NoEmailID, BadEmailID, NoEventID, BadTime, TimeOutOfRange, NoProvider, Refused}
}

// DropError is the error for a body that cannot be counted. Decoding it again
// gives the same error, so waiting and retrying are of no use.
type DropError struct {
	Reason Reason
	// Type is the event's, where so much could be read.
	Type Type
	// Detail is for a person. It may quote the body: it belongs into a dead
	// letter, never into a log.
	Detail string
}

func (e *DropError) Error() string {
	if e.Detail == "" {
		return string(e.Reason)
	}
	return fmt.Sprintf("%s: %s", e.Reason, e.Detail)
}
