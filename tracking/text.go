package tracking

import (
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// clean makes of a provider's text what PostgreSQL can hold: NUL and invalid
// UTF-8 become U+FFFD, and what is longer than limit bytes is cut, never within
// a character.
func clean[T ~string | ~[]byte](text T, limit int) string {
	// What is cut off need not be mended; the margin keeps a character that
	// straddles the limit whole.
	if len(text) > limit+utf8.UTFMax {
		text = text[:limit+utf8.UTFMax]
	}
	s := string(text)
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	if len(s) > limit {
		end := limit
		for !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	return s
}

// parseTime reads RFC 3339 with any fraction and zone, which covers the two
// shapes that Resend sends (2024-11-22T23:41:12.126Z and
// 2024-11-22T23:41:11.894719+00:00). What is finer than PostgreSQL's
// microseconds is cut off.
func parseTime(text []byte) (time.Time, bool) {
	if text == nil {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(text))
	return t.UTC().Truncate(time.Microsecond), err == nil
}

// parseIP is the zero Addr for what is no address. A zone (fe80::1%eth0) has no
// meaning beyond the machine that wrote it, and inet can't hold it.
func parseIP(text []byte) netip.Addr {
	if text == nil {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(string(text))
	if err != nil {
		return netip.Addr{}
	}
	return ip.WithZone("")
}
