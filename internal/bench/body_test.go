package main

import (
	"testing"
	"time"

	"github.com/mailtally/mailtally/tracking"
)

// What is measured from bodies is what is measured from events.
func TestResendBody(t *testing.T) {
	events := stream(20_000, time.Now())
	size := 0
	for i := range events {
		body := resendBody(&events[i])
		size += len(body)
		got, err := tracking.DecodeResend(events[i].EventID, time.Now(), body)
		if err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
		want := events[i]
		if want.Type == tracking.Bounced { // why is nothing that stream knows
			want.Reason, want.Message = got.Reason, got.Message
		}
		if got != want {
			t.Fatalf("decoded\n%+v\nfrom\n%s\nwant\n%+v", got, body, want)
		}
	}
	if mean := size / len(events); mean < 950 || mean > 1100 {
		t.Errorf("%d bytes a body, want about 1 KB", mean)
	}
}
