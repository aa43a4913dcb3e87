package tracking

import (
	"strings"
	"unicode/utf8"
)

// Clean makes a provider's text storable in PostgreSQL: NUL and invalid UTF-8 become
// U+FFFD, and text over limit bytes is truncated, never within a character.
func Clean[T ~string | ~[]byte](text T, limit int) string {
	// What is cut off need not be cleaned; the margin keeps a character that straddles
	// the limit whole.
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
