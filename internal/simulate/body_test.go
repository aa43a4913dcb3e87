package simulate

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func FuzzAppendString(f *testing.F) {
	f.Add("")
	f.Add("plain")
	f.Add("a\"b\\c\n\r\t\x00\x1f\x7f</script>&\u2028é🎉")
	f.Add("\xff\xfe")
	f.Fuzz(func(t *testing.T, s string) {
		b := appendString(nil, s)
		if !json.Valid(b) {
			t.Fatalf("appendString(%q) = %s: invalid", s, b)
		}
		var got string
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		want := s
		if !utf8.ValidString(s) { // passed as it is; the reader's to mend
			want = string([]rune(s))
		}
		if got != want {
			t.Fatalf("appendString(%q) = %s, read as %q", s, b, got)
		}
	})
}

func TestAppendTimeShapes(t *testing.T) {
	at := time.Date(2026, 11, 22, 23, 41, 11, 894_719_000, time.FixedZone("", 3600))
	if got, want := string(appendTime(nil, at, false)), `"2026-11-22T22:41:11.894Z"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := string(appendTime(nil, at, true)), `"2026-11-22T22:41:11.894719+00:00"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestIPsAreReservedForDocumentation(t *testing.T) {
	reserved := []netip.Prefix{
		netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"),
		netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32"),
	}
	var v6 int
	for n := range uint64(10_000) {
		ip, err := netip.ParseAddr(ipOf(n * 0x9e3779b97f4a7c15))
		if err != nil {
			t.Fatal(err)
		}
		if ip.Is6() {
			v6++
		}
		if !slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(ip) }) {
			t.Fatalf("%v is somebody's", ip)
		}
	}
	if v6 < 3000 || v6 > 3700 {
		t.Errorf("%d of 10000 are IPv6, want a third", v6)
	}
}

// All variants of Resend's bodies occur, about as often as intended.
func TestBodyShapes(t *testing.T) {
	shapes := map[string]func(body string) bool{
		"type last":           func(b string) bool { return strings.HasPrefix(b, `{"created_at"`) },
		"type first":          func(b string) bool { return strings.HasPrefix(b, `{"type"`) },
		"microseconds on top": func(b string) bool { return strings.Contains(b[:80], "+00:00") },
		"no broadcast":        func(b string) bool { return !strings.Contains(b, `"broadcast_id"`) },
		"no template":         func(b string) bool { return !strings.Contains(b, `"template_id"`) },
		"tags as object":      func(b string) bool { return strings.Contains(b, `"tags":{`) },
		"tags as array":       func(b string) bool { return strings.Contains(b, `"tags":[`) },
		"no tags":             func(b string) bool { return !strings.Contains(b, `"tags"`) },
		"open object":         func(b string) bool { return strings.Contains(b, `"open":{"ipAddress"`) },
		"headers":             func(b string) bool { return strings.Contains(b, `"headers":[`) },
		"several recipients":  func(b string) bool { return strings.Count(b, `@example.com"`) > 1 },
	}
	want := map[string][2]float64{
		"type last": {.08, .2}, "type first": {.8, .92}, "microseconds on top": {.08, .2},
		"no broadcast": {.1, .4}, "no template": {.2, .5}, "tags as object": {.5, .8},
		"tags as array": {.05, .15}, "no tags": {.1, .4}, "open object": {.01, .05},
		"headers": {.02, .05}, "several recipients": {.01, .03},
	}
	g := NewGenerator(3, false, nil)
	const n = 50_000
	seen := make(map[string]int)
	for range n {
		body := string(g.Next().Body)
		for name, is := range shapes {
			if is(body) {
				seen[name]++
			}
		}
	}
	for name, limits := range want {
		if share := float64(seen[name]) / n; share < limits[0] || share > limits[1] {
			t.Errorf("%s: share %.4f, want %v", name, share, limits)
		}
	}
}
