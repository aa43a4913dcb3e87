package provider

import (
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/mailtally/mailtally/tracking"
)

// SetOccurredAt sets the event's time to the first of times that [Time] can read and
// [tracking.Event.SetOccurredAt] believes. times are what the event says about itself, as
// written and the best first; a missing one is nil. Otherwise the error is a
// *[tracking.DropError]: out of range if one could be read, and else unreadable.
//
// An event's id must not depend on which time this is: a redelivery is received later, and
// then another may be believed.
func SetOccurredAt(e *tracking.Event, receivedAt time.Time, times ...[]byte) error {
	var written []byte
	var unbelieved error
	for _, text := range times {
		at, readable := Time(text)
		if !readable {
			if written == nil {
				written = text
			}
			continue
		}
		err := e.SetOccurredAt(at, receivedAt)
		if err == nil {
			return nil
		}
		if unbelieved == nil {
			unbelieved = err
		}
	}
	if unbelieved != nil {
		return unbelieved
	}
	return &tracking.DropError{Reason: tracking.BadTime, Type: e.Type, Detail: tracking.Clean(written, 64)}
}

// Time reads a time that is written in a way that can mean only one instant, and returns
// false for anything else, such as a time without a zone:
//
//   - RFC 3339, in either case, with any number of digits of a second, after a point or a
//     comma; with a space for the T; without the seconds
//   - RFC 1123, with or without the seconds
//   - a number since 1970, of seconds, milliseconds, microseconds or nanoseconds, which
//     its size tells apart; with or without a fraction or an exponent
//
// A zone is Z, UTC, GMT or an offset up to 23:59, as +01:00, +0100 or +01, with or without a
// space before it. A second 60 is the next minute's first.
func Time(text []byte) (time.Time, bool) {
	const longest = 64 // with a fraction of any use
	if len(text) == 0 {
		return time.Time{}, false
	}
	if at, err := time.Parse(time.RFC3339Nano, string(text)); err == nil {
		// What providers write, and the fastest to read. But time.Parse accepts offsets
		// that no zone has: golang/go#54580.
		_, _, ok := cutZone(string(text))
		return at, ok
	}
	if len(text) > longest {
		return time.Time{}, false
	}
	s := strings.ToUpper(strings.TrimSpace(string(text)))
	if strings.Trim(s, "0123456789.E+-") == "" {
		return sinceEpoch(s)
	}
	clock, offset, ok := cutZone(s)
	if !ok {
		return time.Time{}, false
	}
	var more time.Duration
	if i := strings.Index(clock, ":60"); i >= len(":00") && clock[i-len(":00")] == ':' {
		// The package time knows no second 60.
		clock, more = clock[:i]+":59"+clock[i+len(":60"):], time.Second
	}
	for _, layout := range [...]string{
		"2006-01-02T15:04:05", "2006-01-02 15:04:05", "Mon, 2 Jan 2006 15:04:05",
		"2006-01-02T15:04", "2006-01-02 15:04", "Mon, 2 Jan 2006 15:04",
	} {
		if at, err := time.Parse(layout, clock); err == nil {
			return at.Add(more - offset), true
		}
	}
	return time.Time{}, false
}

// cutZone cuts the zone off a time in upper case.
func cutZone(s string) (clock string, offset time.Duration, ok bool) {
	for _, utc := range [...]string{"Z", "UTC", "GMT"} {
		if clock, ok = strings.CutSuffix(s, utc); ok {
			return strings.TrimRight(clock, " "), 0, true
		}
	}
	sign := strings.LastIndexAny(s, "+-")
	if sign < 0 {
		return "", 0, false
	}
	digits := s[sign+1:]
	switch {
	case len(digits) == len("01"):
		digits += "00"
	case len(digits) == len("01:00") && digits[2] == ':':
		digits = digits[:2] + digits[3:]
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || len(digits) != len("0100") || n/100 > 23 || n%100 > 59 {
		return "", 0, false
	}
	offset = time.Duration(n/100)*time.Hour + time.Duration(n%100)*time.Minute
	if s[sign] == '-' {
		offset = -offset
	}
	return strings.TrimRight(s[:sign], " "), offset, true
}

// sinceEpoch reads a number, to the microsecond, which is all that an event's time holds.
// A float64 would not be exact.
func sinceEpoch(s string) (time.Time, bool) {
	size, err := strconv.ParseFloat(s, 64)
	if err != nil || size < 1 || size >= 1e20 { // beyond that, big.Rat could take long
		return time.Time{}, false
	}
	number, ok := new(big.Rat).SetString(s)
	if !ok {
		return time.Time{}, false
	}
	// As seconds, 1e11 is the year 5138; as milliseconds, it is 1973. So it is with each
	// thousandth.
	perSecond := int64(1)
	for ; size >= 1e11; size /= 1000 {
		perSecond *= 1000
	}
	number.Mul(number, big.NewRat(time.Second.Microseconds(), perSecond))
	return time.UnixMicro(new(big.Int).Quo(number.Num(), number.Denom()).Int64()), true
}
