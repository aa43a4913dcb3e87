package main

import (
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/internal/baseline"
)

func TestNoteOfWrongRows(t *testing.T) {
	// One sum of times is about to pass the modulo, the other has just passed it.
	const opened, clicked = timesModulo - 3, 7
	want := tallies{Emails: 10, Events: 4000, Opens: 20, Clicks: 5, ClicksStored: 5, OpenedAt: opened, ClickedAt: clicked}
	for _, c := range []struct {
		got  []tallies
		note string
	}{
		{nil, ""},
		{[]tallies{want, want}, ""},
		{
			[]tallies{want, {10, 2990, 18, 5, 5, opened, clicked}, {10, 3997, 18, 5, 5, opened, clicked}},
			"wrong: lost 0–1,010 of 4,000 events, 0–2 of 20 opens",
		},
		{[]tallies{{10, 4000, 20, 5, 4, opened, clicked}}, "wrong: lost 1 of 5 clicks in the history"},
		{[]tallies{{10, 4000, 20, 6, 5, opened, clicked}}, "wrong: lost -1 of 5 clicks"},
		{[]tallies{{10, 4000, 20, 5, 5, opened - 2, clicked}}, "wrong: off by 2 µs in all first opens"},
		{[]tallies{{10, 4000, 20, 5, 5, 1, clicked}}, "wrong: off by -4 µs in all first opens"},
		{[]tallies{{10, 4000, 20, 5, 5, opened, timesModulo - 1}}, "wrong: off by 8 µs in all first clicks"},
	} {
		contender := contender{load: load{want: want}}
		for _, got := range c.got {
			contender.lost = append(contender.lost, want.minus(got))
		}
		if note := contender.note(); note != c.note {
			t.Errorf("note of %+v: %q, want %q", c.got, note, c.note)
		}
	}
}

// testServer is a PostgreSQL as the parts have it, but small.
func testServer(t *testing.T) *database {
	t.Helper()
	dir, err := dataDir("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &bench{dir: dir, log: slog.New(slog.DiscardHandler), report: newReport(io.Discard, false, 1)}
	d, err := b.postgres(t.Context(), "test", map[string]string{"shared_buffers": "32MB", "max_wal_size": "256MB", "min_wal_size": "32MB", "fsync": "off"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	return d
}

// Each contender's sums, read from its own tables, are those of the stream. One
// whose rows are changed behind its back is found out.
func TestContendersAreChecked(t *testing.T) {
	d := testServer(t)
	l := newLoad(stream(20_000, time.Now()))
	few := newLoad(l.events[:2_000])
	spared := newLoad(distinct(l.events))
	s := size{1_000, 2}
	list := []*contender{ours(s, l), keyedCopy(s, spared), sortedCopy(s, spared), keylessCopy(s, spared)}
	for _, way := range baseline.Ways()[1:] { // the first one loses events
		list = append(list, eachEvent(way, few))
	}
	for _, c := range list {
		if err := c.measure(t.Context(), d); err != nil {
			t.Fatalf("%s: %v", c.row.Name, err)
		}
		if note := c.note(); note != "" {
			t.Errorf("%s: %s", c.row.Name, note)
		}
	}
	if l.want.OpenedAt == 0 || l.want.ClickedAt == 0 || l.want.Events == len(l.events) {
		t.Errorf("the stream has too little to check: %+v", l.want)
	}

	c := list[0]
	if err := c.measure(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), d.URL("bench"))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	_, err = pool.Exec(t.Context(), `
		UPDATE mailtally.email SET clicked_at = clicked_at - interval '5 microseconds'
		 WHERE id = (SELECT id FROM mailtally.email WHERE clicked_at IS NOT NULL LIMIT 1)`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := queryTallies(t.Context(), pool, c.tallies)
	if err != nil {
		t.Fatal(err)
	}
	if note := differences(l.want, l.want.minus(got)); note != "wrong: off by 5 µs in all first clicks" {
		t.Errorf("after a change of 5 µs: %q", note)
	}
}
