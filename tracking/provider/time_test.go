package provider_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider"
)

func TestTime(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2026-11-22T23:41:12Z":                                      "2026-11-22T23:41:12Z",
		"2026-11-22T23:41:12.126Z":                                  "2026-11-22T23:41:12.126Z",
		"2026-11-22T23:41:12.123456789Z":                            "2026-11-22T23:41:12.123456789Z",
		"2026-11-22T23:41:12.12345678901234Z":                       "2026-11-22T23:41:12.123456789Z",
		"2026-11-22T23:41:12,126Z":                                  "2026-11-22T23:41:12.126Z",
		"2026-11-22T23:41:12.894719+00:00":                          "2026-11-22T23:41:12.894719Z",
		"2026-11-22T23:41:12-00:00":                                 "2026-11-22T23:41:12Z",
		"2026-11-22T23:41:12+05:30":                                 "2026-11-22T18:11:12Z",
		"2026-11-22T23:41:12-0530":                                  "2026-11-23T05:11:12Z",
		"2026-11-22T23:41:12+00":                                    "2026-11-22T23:41:12Z",
		"2026-11-22T23:41:12+23:59":                                 "2026-11-21T23:42:12Z",
		"2026-11-22T3:41:12Z":                                       "2026-11-22T03:41:12Z", // as time.Parse does
		"2026-11-22t23:41:12.126z":                                  "2026-11-22T23:41:12.126Z",
		"2026-11-22 23:41:12Z":                                      "2026-11-22T23:41:12Z",
		"2026-11-22 23:41:12.126+00":                                "2026-11-22T23:41:12.126Z", // PostgreSQL
		"2026-11-22 23:41:12 +0100":                                 "2026-11-22T22:41:12Z",     // Ruby
		"2026-11-22 23:41:12 UTC":                                   "2026-11-22T23:41:12Z",
		"2026-11-22T23:41:12." + strings.Repeat("1", 100_000) + "Z": "2026-11-22T23:41:12.111111111Z",
		" 2026-11-22T23:41:12Z\r\n":                                 "2026-11-22T23:41:12Z",
		"2026-11-22T23:41Z":                                         "2026-11-22T23:41:00Z",
		"2026-11-22 23:41 -0100":                                    "2026-11-23T00:41:00Z",
		"2016-12-31T23:59:60Z":                                      "2017-01-01T00:00:00Z",
		"2016-12-31T23:59:60.5Z":                                    "2017-01-01T00:00:00.5Z",
		"2017-01-01 05:29:60+0530":                                  "2017-01-01T00:00:00Z",
		"2026-11-22T23:41:60Z":                                      "2026-11-22T23:42:00Z", // 59.9996 in three digits
		"Sun, 22 Nov 2026 23:41:12 GMT":                             "2026-11-22T23:41:12Z",
		"sun, 2 nov 2026 23:41:12 utc":                              "2026-11-02T23:41:12Z",
		"Sun, 22 Nov 2026 23:41:12 +0100":                           "2026-11-22T22:41:12Z",
		"Sun, 22 Nov 2026 23:41 +0100":                              "2026-11-22T22:41:00Z",
		"Sat, 31 Dec 2016 23:59:60 GMT":                             "2017-01-01T00:00:00Z",
		"1795390872":                                                "2026-11-22T23:41:12Z",
		"1795390872.126":                                            "2026-11-22T23:41:12.126Z",
		"1795390872.1264567":                                        "2026-11-22T23:41:12.126456Z",
		"1.795390872126E9":                                          "2026-11-22T23:41:12.126Z",
		"1795390872126":                                             "2026-11-22T23:41:12.126Z",
		"1795390872126.4567":                                        "2026-11-22T23:41:12.126456Z",
		"1795390872126456":                                          "2026-11-22T23:41:12.126456Z",
		"1795390872126456789":                                       "2026-11-22T23:41:12.126456Z",
		"99999999999":                                               "5138-11-16T09:46:39Z",
		"100000000000":                                              "1973-03-03T09:46:40Z",
	} {
		if at, readable := provider.Time([]byte(text)); !readable || at.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%q: %v, readable: %t, want %s", text, at, readable, want)
		}
	}
	for _, text := range []string{
		"", " ", "soon", "Z", "+00:00", "+", "-", "e", ".", "nan", "inf", "0x6a", "1_000_000_000", "1/2",
		"2026-11-22T23:41:12", "2026-11-22 23:41:12", "Sun, 22 Nov 2026 23:41:12", "2026-11-22", "23:41:12Z", // no zone, no date
		"2026-11-22T23:41:12 EST", "Sun, 22 Nov 2026 23:41:12 CET", "Sunday, 22-Nov-26 23:41:12 GMT", "Sun Nov 22 23:41:12 2026",
		"22.11.2026 23:41:12Z", "11/22/2026 23:41:12Z", "22-11-2026T23:41:12Z",
		"2026-11-22T23:41:12+24:60", "2026-11-22T23:41:12+24:00", "2026-11-22T23:41:12-24:00", "2026-11-22T23:41:12+00:60",
		"2026-11-22T23:41:12+2400", "2026-11-22T23:41:12+0060", "2026-11-22T23:41:12+24", "Sun, 22 Nov 2026 23:41:12 +2460",
		"2026-11-22T23:41:12+5:30", "2026-11-22T23:41:12+530", "2026-11-22T23:41:12+5", "2026-11-22T23:41:12+05:3", "2026-11-22T23:41:12+05:+3",
		"2026-11-22T23:41:12+0:530", "2026-11-22T23:41:12+05:30:00", "2026-11-22T23:41:12+-5:30", "2026-11-22T23:41:12Z+00:00", "2026-11-22T23:41:12ZZ",
		"2026-11-22T23:41:61Z", "2026-11-22T23:60:00Z", "2026-11-22T23:60Z", "2026-11-22T23:60:60Z", "2026-11-22T24:00:00Z", "2026-11-22T:59:60Z",
		"2026-02-29T23:41:12Z", "2026-02-30T23:59:60Z", "2026-13-01T23:41:12Z", "2026-11-22T23:41:12.Z", "2026-11-22T23Z", "2026-11-22TZ",
		"12026-11-22T23:41:12Z", "-2026-11-22T23:41:12Z", "2026-11-22T23:41:12\x00Z", "2026-11-22T23:41:12.126\xffZ",
		"0", "-1", "-1795390872", "+", "1e", "1e400", "1e-400", "1e-999999999", "1e999999999", "1e20", "0.5", "1795390872.1.2",
		strings.Repeat("1", 300), "1." + strings.Repeat("1", 100_000), strings.Repeat(" ", 100_000) + "x", strings.Repeat("2026-11-22T23:41:12Z", 10_000),
	} {
		if at, readable := provider.Time([]byte(text)); readable {
			t.Errorf("%.60q: %v, want it unreadable", text, at)
		}
	}
	if _, readable := provider.Time(nil); readable {
		t.Error("nothing is readable")
	}
}

// Every shape of the same instant is the same time.
func TestProperty_Time(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// All instants with microseconds that the shapes can hold.
		at := time.UnixMicro(rapid.Int64Range(101_000_000_000_000, 9_999_999_999_999_999).Draw(t, "microseconds"))
		at = at.Truncate(rapid.SampledFrom([]time.Duration{time.Microsecond, time.Second, time.Minute}).Draw(t, "unit"))
		offset := rapid.IntRange(-(24*60-1), 24*60-1).Draw(t, "offset")
		local := at.In(time.FixedZone("", offset*60))

		date := rapid.SampledFrom([]string{"2006-01-02T", "2006-01-02 ", "2006-01-02t"}).Draw(t, "date")
		clock := "15:04:05" + rapid.SampledFrom([]string{".", ","}).Draw(t, "point") + "000000"
		zone := rapid.SampledFrom([]string{"Z07:00", "Z0700", "-07:00", "-0700", " -0700"}).Draw(t, "zone")
		texts := []string{
			local.Format(date + clock + zone),
			local.Format("Mon, 02 Jan 2006 " + clock + " -0700"),
			local.Format("Mon, 2 Jan 2006 " + clock + " -0700"),
			at.UTC().Format(date + clock + rapid.SampledFrom([]string{"z", " Z", "+00", " UTC", "GMT"}).Draw(t, "UTC")),
			fmt.Sprintf("%d.%06d", at.Unix(), at.Nanosecond()/1000),
			fmt.Sprintf("%d.%03d", at.UnixMilli(), at.UnixMicro()%1000),
			fmt.Sprint(at.UnixMicro()),
			fmt.Sprintf("%d.%015de9", at.Unix()/1_000_000_000, at.UnixMicro()%1_000_000_000_000_000),
		}
		if early := local.Add(-time.Second); early.Second() == 59 { // its second 60 is the next minute's first
			texts = append(texts, strings.Replace(early.Format("2006-01-02T15:04:05.000000Z07:00"), ":59.", ":60.", 1))
		}
		if at.Nanosecond() == 0 && at.Second() == 0 {
			texts = append(texts, local.Format(date+"15:04"+zone), local.Format("Mon, 02 Jan 2006 15:04 -0700"))
		}
		for _, text := range texts {
			if got, readable := provider.Time([]byte(text)); !readable || !got.Equal(at) {
				t.Fatalf("%q: %v, readable: %t, want %v", text, got, readable, at)
			}
		}
	})
}

// Whatever time.Parse accepts as RFC 3339 means the same here, except for offsets that no
// zone has.
func FuzzTime(f *testing.F) {
	for _, text := range []string{"2026-11-22T23:41:12Z", "2026-11-22T3:41:12,5+24:60", "2016-12-31t23:59:60.1-0530", "Sun, 22 Nov 2026 23:41 GMT", "1795390872126", "1.795390872e9", "1e-99999999"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		kept := slices.Clone(text)
		got, readable := provider.Time(text)
		if !slices.Equal(text, kept) {
			t.Fatal("the text has changed")
		}
		want, err := time.Parse(time.RFC3339Nano, string(text))
		if err != nil {
			return
		}
		zone := string(text[len(text)-len("24:60"):])
		if possible := text[len(text)-1] == 'Z' || zone < "24" && zone[3] < '6'; readable != possible || readable && !got.Equal(want) {
			t.Fatalf("%q: %v, readable: %t; time.Parse says %v", text, got, readable, want)
		}
	})
}

// The first time counts that can be believed.
func TestSetOccurredAt(t *testing.T) {
	t.Parallel()
	received := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	const good, other = "2026-11-22T23:41:12Z", "2026-11-22T23:41:11Z"
	for _, test := range []struct {
		name  string
		times []string // "-" is a time that is not there
		want  string
	}{
		{"the first", []string{good, other}, good},
		{"no time", nil, "bad_time"},
		{"none there", []string{"-", "-"}, "bad_time"},
		{"the first is missing", []string{"-", good}, good},
		{"unreadable", []string{"soon", good}, good},
		{"1970", []string{"1970-01-01T00:00:00Z", good}, good},
		{"year 1", []string{"0001-01-01T00:00:00Z", good}, good},
		{"just before 2000", []string{"1999-12-31T23:59:59.999999Z", good}, good},
		{"the first of 2000", []string{"2000-01-01T00:00:00Z", good}, "2000-01-01T00:00:00Z"},
		{"a day ahead", []string{"2026-11-24T12:00:00Z", good}, "2026-11-24T12:00:00Z"},
		{"more than a day ahead", []string{"2026-11-24T12:00:00.000001Z", good}, good},
		{"year 9999", []string{"9999-12-31T23:59:59Z", good}, good},
		{"seconds as zero", []string{"0", good}, good},
		{"the third", []string{"1970-01-01T00:00:00Z", "soon", good}, good},
		{"all unreadable", []string{"-", "soon", "later"}, "bad_time: soon"},
		{"all unbelievable", []string{"1970-01-01T00:00:00Z", "soon", "2030-01-01T00:00:00Z"}, "time_out_of_range: 1970-01-01T00:00:00Z"},
		{"unreadable, and unbelievable", []string{"soon", "2030-01-01T00:00:00+01:00"}, "time_out_of_range: 2029-12-31T23:00:00Z"},
		{"an over-long one", []string{strings.Repeat("é", 100)}, "bad_time: " + strings.Repeat("é", 32)},
	} {
		var times [][]byte
		for _, text := range test.times {
			if text == "-" {
				times = append(times, nil)
			} else {
				times = append(times, []byte(text))
			}
		}
		e := tracking.Event{Type: tracking.Opened}
		err := provider.SetOccurredAt(&e, received, times...)
		got := e.OccurredAt.Format(time.RFC3339Nano)
		if err != nil {
			got = err.Error()
			var drop *tracking.DropError
			if !errors.As(err, &drop) || drop.Type != tracking.Opened {
				t.Errorf("%s: error %#v", test.name, err)
			}
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}
