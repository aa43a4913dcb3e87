package tracking_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/mailtally/mailtally/tracking"
)

// Databases hold these ids: they must never change.
func TestEmailID(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		provider, id, want string
		derived            bool
	}{
		{"resend", "56761188-7520-42d8-8898-ff6fc54ce618", "56761188-7520-42d8-8898-ff6fc54ce618", false},
		{"resend", "56761188-7520-42D8-8898-FF6FC54CE618", "56761188-7520-42d8-8898-ff6fc54ce618", false},
		// Only that form is a UUID: no two characters around it, though uuid.Parse would skip
		// any, nor the other forms that it accepts.
		{"resend", "x56761188-7520-42d8-8898-ff6fc54ce618y", "", true},
		{"resend", " 56761188-7520-42d8-8898-ff6fc54ce618 ", "", true},
		{"resend", "\x0056761188-7520-42d8-8898-ff6fc54ce618\x00", "", true},
		{"resend", "{56761188-7520-42d8-8898-ff6fc54ce618}", "", true},
		{"resend", "urn:uuid:56761188-7520-42d8-8898-ff6fc54ce618", "", true},
		{"resend", "56761188752042d88898ff6fc54ce618", "", true},
		// From sha256sum, with version and variant set by hand.
		{"postmark", "20130503192659.13651.20287@mg.example.com", "aad830b5-9f64-8dea-a1dc-d94b2240ec05", true},
	} {
		if id, derived := tracking.EmailID(test.provider, test.id); test.want != "" && id.String() != test.want || derived != test.derived {
			t.Errorf("%s %s: %v, %t, want %s, %t", test.provider, test.id, id, derived, test.want, test.derived)
		}
	}
}

// SQL and Go agree on every id that PostgreSQL can hold.
func TestProperty_EmailIDInSQL(t *testing.T) {
	pool := newPool(t)
	ids := rapid.OneOf(
		rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 16, 16), func(b []byte) string { return uuid.UUID(b).String() }),
		rapid.StringMatching(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`),
		rapid.StringMatching(`[0-9a-fg-]{32,38}`),
		rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"x", "y", " ", "\n", "\t", "{", "}", "(", "-", "\u00a0", "urn:uuid:"}), 1, 2), func(around []string) string {
			return around[0] + "56761188-7520-42d8-8898-ff6fc54ce618" + around[len(around)-1]
		}),
		rapid.SampledFrom([]string{"", "{56761188-7520-42d8-8898-ff6fc54ce618}", "56761188752042d88898ff6fc54ce618", "56761188-7520-42d8-8898-ff6fc54ce618\n"}),
	)
	rapid.Check(t, func(t *rapid.T) {
		provider := rapid.SampledFrom([]string{"resend", "postmark", "ses", ""}).Draw(t, "provider")
		id := strings.ToValidUTF8(strings.ReplaceAll(ids.Draw(t, "id"), "\x00", ""), "")
		want, _ := tracking.EmailID(provider, id)
		var got uuid.UUID
		if err := pool.QueryRow(context.Background(), "SELECT mailtally.email_id($1, $2)", provider, id).Scan(&got); err != nil {
			t.Fatalf("%q: %v", id, err)
		}
		if got != want {
			t.Fatalf("%q: SQL says %v, Go %v", id, got, want)
		}
	})
}
