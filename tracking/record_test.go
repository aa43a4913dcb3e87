package tracking_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mailtally/mailtally/tracking"
)

// Whatever is encoded decodes to the same: what a producer says of an event, what a
// dead letter adds, and other people's headers in between.
func TestProperty_RecordDecodesAsItWasEncoded(t *testing.T) {
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	rapid.Check(t, func(t *rapid.T) {
		want := tracking.Record{Provider: text.Draw(t, "provider"), EventID: text.Draw(t, "event id"), SentAt: text.Draw(t, "sent at")}
		if rapid.Bool().Draw(t, "received") {
			want.ReceivedAt = time.Unix(rapid.Int64Range(-60e9, 250e9).Draw(t, "s"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns")).UTC()
		}
		for range rapid.IntRange(0, 3).Draw(t, "others") {
			want.Others = append(want.Others, tracking.Header{Key: "x-" + text.Draw(t, "name"), Value: []byte(text.Draw(t, "value"))})
		}
		if rapid.Bool().Draw(t, "dead") {
			want.DeadLetter = &tracking.DeadLetter{
				Reason: rapid.SampledFrom(tracking.Reasons()).Draw(t, "reason"), Detail: text.Draw(t, "detail"), ValueOmitted: text.Draw(t, "value omitted"),
				HeadersOmitted: text.Draw(t, "headers omitted"), KeyOmitted: text.Draw(t, "key omitted"),
			}
			if rapid.Bool().Draw(t, "consumed") {
				want.DeadLetter.Source = &tracking.Source{
					Topic: text.Draw(t, "topic"), Partition: rapid.Int32Min(0).Draw(t, "partition"), Offset: rapid.Int64Min(0).Draw(t, "offset"),
				}
			}
		}
		got := decode(want.Headers())
		if !same(got, want) {
			t.Fatalf("decoded as\n%+v %+v, want\n%+v %+v", got, got.DeadLetter, want, want.DeadLetter)
		}
	})
}

// A record that anybody wrote keeps all its headers when it becomes a dead letter,
// except that empty ones vanish, and that the time of receipt may be formatted
// differently.
func TestProperty_RecordKeepsForeignHeaders(t *testing.T) {
	names := []string{"provider", "webhook-id", "webhook-timestamp", "received-at", "reason", "detail", "source-topic", "source-partition", "source-offset", "value-omitted", "headers-omitted", "key-omitted", "traceparent", ""}
	values := []string{"", "resend", "1", "01", "-1", "99999999999999999999", "2026-11-24T12:00:00Z", "2026-11-24T12:00:00.120+01:00", "\xff\x00", "postmark"}
	rapid.Check(t, func(t *rapid.T) {
		var headers []tracking.Header
		for range rapid.IntRange(0, 8).Draw(t, "headers") {
			headers = append(headers, tracking.Header{Key: rapid.SampledFrom(names).Draw(t, "name"), Value: []byte(rapid.SampledFrom(values).Draw(t, "value"))})
		}
		once := decode(headers)
		again := decode(once.Headers())
		if !same(again, once) {
			t.Fatalf("%q\ndecoded as %+v %+v\nand then as %+v %+v", headers, once, once.DeadLetter, again, again.DeadLetter)
		}
		kept := once.Headers()
		for _, h := range headers {
			if len(h.Value) == 0 || h.Key == "received-at" || h.Key == "source-partition" || h.Key == "source-offset" {
				continue
			}
			at := slices.IndexFunc(kept, func(k tracking.Header) bool { return k.Key == h.Key && bytes.Equal(k.Value, h.Value) })
			if at < 0 {
				t.Fatalf("%q lost of %q: %q", h, headers, kept)
			}
			kept = slices.Delete(kept, at, at+1)
		}
	})
}

func decode(headers []tracking.Header) (r tracking.Record) {
	for _, h := range headers {
		r.SetHeader(h.Key, h.Value)
	}
	return r
}

func same(a, b tracking.Record) bool {
	letters := (a.DeadLetter == nil) == (b.DeadLetter == nil)
	if letters && a.DeadLetter != nil {
		x, y := *a.DeadLetter, *b.DeadLetter
		letters = x.Reason == y.Reason && x.Detail == y.Detail && x.ValueOmitted == y.ValueOmitted &&
			x.HeadersOmitted == y.HeadersOmitted && x.KeyOmitted == y.KeyOmitted && (x.Source == nil) == (y.Source == nil) &&
			(x.Source == nil || *x.Source == *y.Source)
	}
	return letters && a.Provider == b.Provider && a.EventID == b.EventID && a.SentAt == b.SentAt && a.ReceivedAt.Equal(b.ReceivedAt) &&
		slices.EqualFunc(a.Others, b.Others, func(x, y tracking.Header) bool { return x.Key == y.Key && bytes.Equal(x.Value, y.Value) })
}
