package tracking_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/tracking"
)

// An event whose id is cut is the same event: for what was counted before ids were cut,
// and the other way round. What the history stores is the same too.
func TestI1_ShortenedIDsAreTheSameEvents(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	store := &tracking.Store{Pool: pool}
	for name, id := range map[string]string{
		"short": "msg_1", "as long as is stored": strings.Repeat("x", 256), "a little longer": strings.Repeat("x", 259) + "é",
		"long": strings.Repeat("x", 900_000), "no text": strings.Repeat("\xff", 900_000), "cut in a character": strings.Repeat("xé€", 100),
	} {
		for _, first := range []bool{false, true} { // whether the first one is cut
			whole := event(uuid.New(), tracking.Opened, 1)
			whole.EventID = id
			cut, other := whole, whole
			cut.ShortenID()
			other.EventID += "1"
			other.ShortenID()
			if len(cut.EventID) > 300 {
				t.Errorf("%s: %d bytes are kept", name, len(cut.EventID))
			}
			one, another := whole, cut
			if first {
				one, another = cut, whole
			}
			if r := apply(t.Context(), t, store, one); r.Applied[tracking.Opened] != 1 {
				t.Errorf("%s: not applied: %+v", name, r)
			}
			if r := apply(t.Context(), t, store, another, other); r.Duplicate[tracking.Opened] != 1 || r.Applied[tracking.Opened] != 1 {
				t.Errorf("%s: the same one is not a duplicate, or another one is: %+v", name, r)
			}
			var stored string
			if err := pool.QueryRow(t.Context(), "SELECT event_id FROM mailtally.email_event WHERE email_id = $1 LIMIT 1", whole.EmailID).Scan(&stored); err != nil {
				t.Fatal(err)
			}
			if want := tracking.Clean(id, tracking.MaxEventID); !strings.HasPrefix(stored, want) && stored != want {
				t.Errorf("%s: %.300q is stored, want %.300q", name, stored, want)
			}
		}
	}
}
