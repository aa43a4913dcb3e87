package main

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// A server that is primed has the segments that max_wal_size allows, ahead of
// where it writes.
func TestPrime(t *testing.T) {
	d := testServer(t)
	if err := d.prime(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ahead, allowed int
	err := d.admin.QueryRow(t.Context(), `
		SELECT (SELECT count(*) FROM pg_ls_waldir() WHERE name > pg_walfile_name(pg_current_wal_insert_lsn())),
		       (SELECT setting::int FROM pg_settings WHERE name = 'max_wal_size') / 16`).Scan(&ahead, &allowed)
	if err != nil {
		t.Fatal(err)
	}
	if ahead < allowed-2 || ahead > allowed {
		t.Errorf("%d segments wait to be used, want about %d", ahead, allowed)
	}
}

func TestCheckpointsAreCounted(t *testing.T) {
	d := testServer(t)
	before, err := d.checkpoints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.admin.Exec(t.Context(), "CHECKPOINT"); err != nil {
		t.Fatal(err)
	}
	// The server tells of it some time later.
	for deadline := time.Now().Add(10 * time.Second); ; {
		after, err := d.checkpoints(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if after == before+1 {
			return
		}
		if after > before+1 || time.Now().After(deadline) {
			t.Fatalf("%d checkpoints after %d and one more", after, before)
		}
	}
}

// grew makes up a database that writes 100 bytes of WAL an event at first, and
// more from the tenth step on. A checkpoint begins after every 2.5 steps and is
// complete 1.2 steps later.
func grew(late int64) *growing {
	g := &growing{start: point{wal: 1000, redo: 900, checkpoints: 1}}
	p := g.start
	redos := []int64{900} // where checkpoints began
	next := 2_500_000     // in events
	at := []int{-1 << 40} // the same, in events
	for i := range 20 {
		perEvent := int64(100)
		if i >= 10 {
			perEvent = late
		}
		for p.events+growthStep >= next {
			redos = append(redos, p.wal+int64(next-p.events)*perEvent)
			at = append(at, next)
			p.checkpoints++
			next += 2_500_000
		}
		p.events += growthStep
		p.wal += growthStep * perEvent
		for j := range at {
			if at[j]+1_200_000 <= p.events {
				p.redo = redos[j]
			}
		}
		took := time.Second
		if i >= 18 {
			took = 2 * time.Second
		}
		g.steps = append(g.steps, step{work: work{events: growthStep}, took: took, wal: growthStep * perEvent, end: p})
	}
	return g
}

func TestCyclesOfCheckpoints(t *testing.T) {
	list := grew(150).cycles(20)
	var got []string
	for _, p := range list {
		got = append(got, fmt.Sprintf("%.1f", float64(p.events)/growthStep))
	}
	// The one that begins at 20 is not complete.
	if want := "[2.5 5.0 7.5 10.0 12.5 15.0 17.5]"; fmt.Sprint(got) != want {
		t.Errorf("checkpoints began at %v, want %s", got, want)
	}
	if list := grew(150).cycles(3); len(list) != 0 {
		t.Errorf("after 3 steps none is complete: %v", list)
	}
}

func TestFlatness(t *testing.T) {
	figures := func(r row) string {
		return fmt.Sprintf("%.3g %.3g %.3g", r.last("early"), r.last("late"), r.last("late/early"))
	}
	full := grew(150).flatness(true)
	if len(full.Rows) != 2 {
		t.Fatalf("rows of the full form: %+v", full.Rows)
	}
	if got := figures(full.Rows[0]); got != "1e+06 5e+05 0.5" {
		t.Errorf("rates: %s", got)
	}
	r := full.Rows[1]
	if got := figures(r); got != "100 150 1.5" || r.Note != "from 2,500,000 to 5,000,000, and from 15,000,000 to 17,500,000 deliveries" {
		t.Errorf("WAL: %s, %s", got, r.Note)
	}
	if short := grew(150).flatness(false); len(short.Rows) != 1 {
		t.Errorf("the short form claims more than a rate: %+v", short.Rows)
	}
}

// Where checkpoints come so close that the steps do not show all, there is no
// figure.
func TestFlatnessOfCoarseSteps(t *testing.T) {
	g := grew(150)
	g.steps[19].end.checkpoints += 2
	r := g.flatness(true).Rows[1]
	if !math.IsNaN(r.last("late/early")) || r.Note != "not known: 10 checkpoints began, of which the steps show 7" {
		t.Errorf("%v, %q", r.last("late/early"), r.Note)
	}
	g = grew(150)
	g.steps = g.steps[:5]
	if r := g.flatness(true).Rows[1]; !math.IsNaN(r.last("late/early")) || r.Note != "whole cycles: 1, not enough to compare two" {
		t.Errorf("%v, %q", r.last("late/early"), r.Note)
	}
}
