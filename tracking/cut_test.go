package tracking_test

import (
	"strings"
	"testing"

	"github.com/mailtally/mailtally/tracking"
)

// Whatever headers a record came with, its letter can be cut until little more is left
// than its reason and place.
func TestRecord_CutLeavesReasonAndPlace(t *testing.T) {
	t.Parallel()
	large := []byte(strings.Repeat("x", 1<<20))
	for name, headers := range map[string][]tracking.Header{
		"none":        nil,
		"large ones":  {{Key: "webhook-id", Value: large}, {Key: "trace", Value: large}},
		"empty ones":  make([]tracking.Header, 1000),
		"a letter's":  {{Key: "reason", Value: large}, {Key: "detail", Value: large}, {Key: "source-topic", Value: large}},
		"cut already": {{Key: "value-omitted", Value: large}, {Key: "headers-omitted", Value: large}, {Key: "key-omitted", Value: large}},
	} {
		letter := decode(append(headers, headers...)) // of repeated ones, the others remain
		letter.DeadLetter = &tracking.DeadLetter{Reason: tracking.NotJSON, Source: &tracking.Source{Topic: "t", Partition: 1, Offset: 2}}
		cuts := 0
		for letter = decode(letter.Headers()); letter.Cut(); letter = decode(letter.Headers()) {
			if cuts++; cuts > 10 {
				t.Fatalf("%s: it is cut without end", name)
			}
		}
		size := 0
		for _, h := range letter.Headers() {
			size += len(h.Key) + len(h.Value) + 2
		}
		if d := letter.DeadLetter; d.Reason != tracking.NotJSON || d.Source == nil || d.Source.Offset != 2 || size > 500 {
			t.Errorf("%s: left are %d bytes, with %+v", name, size, d)
		}
	}
}
