package postmark

import (
	"github.com/mailtally/mailtally/tracking"
)

// typeOf returns the Type for a body's RecordType and, for a bounce, its Type; false if
// it is not tracked. There is none for "sent": Postmark does not report it.
//
// Not tracked are events about an address rather than an email (SubscriptionChange),
// inbound mail, and every type that this version does not know.
func typeOf(recordType, bounceType []byte) (tracking.Type, bool) {
	switch string(recordType) {
	case "Delivery":
		return tracking.Delivered, true
	case "Open":
		return tracking.Opened, true
	case "Click":
		return tracking.Clicked, true
	case "SpamComplaint":
		return tracking.Complained, true
	case "Bounce":
		typ, tracked := bounceTypes[string(bounceType)]
		return typ, tracked
	}
	return 0, false
}

// bounceTypes are the types that say what became of an email. AutoResponder,
// AddressChange, ChallengeVerification, OpenRelayTest, Subscribe, Unsubscribe,
// ManualSuppression and Unknown do not.
// https://postmarkapp.com/developer/api/bounce-api#bounce-types
var bounceTypes = map[string]tracking.Type{
	"HardBounce":              tracking.Bounced,
	"SoftBounce":              tracking.Bounced,
	"Blocked":                 tracking.Bounced,
	"BadEmailAddress":         tracking.Bounced,
	"DMARCPolicy":             tracking.Bounced,
	"VirusNotification":       tracking.Bounced,
	"Transient":               tracking.DeliveryDelayed,
	"DnsError":                tracking.DeliveryDelayed,
	"SpamNotification":        tracking.Complained,
	"SpamComplaint":           tracking.Complained,
	"ManuallyDeactivated":     tracking.Suppressed,
	"Unconfirmed":             tracking.Suppressed,
	"SMTPApiError":            tracking.Failed,
	"TemplateRenderingFailed": tracking.Failed,
}
