package tracking_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/uuid"
)

// Of an email with very many clicks, the first 10,000 are listed, the value says that there
// are more, and totalClicks is right. The other emails of the same query have all of theirs.
func TestEmailHistory_VeryManyClicks(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	const most = 10_000
	for n, test := range map[int]struct {
		link string
		want string
	}{
		1:        {"'https://example.com/'", ""},
		most:     {"'https://example.com/'", ""},
		most + 1: {"'https://example.com/'", "true"},
		33_000:   {"repeat('x', 8192 - 5)", "true"}, // all of them are more than a jsonb can hold
	} {
		// The last ones come first into the table.
		_, err := pool.Exec(t.Context(), `
			WITH emails AS (INSERT INTO mailtally.email (id, open_count, click_count, seen) VALUES ($1, 0, $2, '{}'))
			INSERT INTO mailtally.email_event (email_id, occurred_at, type, event_id, link, user_agent)
			SELECT $1, '2026-03-01T12:00Z'::timestamptz + n * interval '1 second', 'clicked', n, `+test.link+` || n, '`+test.want+`'
			  FROM generate_series($2::int, 1, -1) AS n`, uuid.New(), n)
		if err != nil {
			t.Fatal(err)
		}
	}
	rows, err := pool.Query(t.Context(), `
		SELECT click_count, (link_clicks -> 'totalClicks')::int, jsonb_array_length(link_clicks -> 'clicks'), coalesce(link_clicks ->> 'truncated', ''),
		       right(link_clicks #>> '{clicks,0,link}', 2), right(link_clicks #>> '{clicks,-1,link}', 5), link_clicks #>> '{clicks,0,userAgent}'
		  FROM mailtally.email_history`)
	if err != nil {
		t.Fatal(err)
	}
	emails := 0
	for rows.Next() {
		emails++
		var count, total, listed int
		var truncated, first, last, want string
		if err := rows.Scan(&count, &total, &listed, &truncated, &first, &last, &want); err != nil {
			t.Fatal(err)
		}
		if total != count || listed != min(count, most) || truncated != want || first[1:] != "1" || count >= most && last != fmt.Sprint(most) {
			t.Errorf("of %d clicks, %d are listed, from %s to %s, totalClicks is %d and truncated %q", count, listed, first, last, total, truncated)
		}
	}
	if err := rows.Err(); err != nil || emails != 4 {
		t.Fatalf("%d emails, %v", emails, err)
	}
}

// The clicks are cut before they are put together, so that the cost has a bound.
func TestPlans_LinkClicksAreCutFirst(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	id := uuid.New()
	text := explain(t.Context(), t, conn, "SELECT", "SELECT link_clicks FROM mailtally.email_history WHERE id = $1::uuid", [][]byte{id[:]})
	var root []struct{ Plan plan }
	if err := json.Unmarshal([]byte(text), &root); err != nil {
		t.Fatal(err)
	}
	var cut func(p plan) bool
	cut = func(p plan) bool {
		for _, child := range p.Plans {
			if p.NodeType == "Aggregate" && (child.NodeType == "Limit" || child.NodeType == "Subquery Scan" && child.Plans[0].NodeType == "Limit") || cut(child) {
				return true
			}
		}
		return false
	}
	if !cut(root[0].Plan) {
		t.Errorf("no LIMIT below the aggregate: %s", text)
	}
}
