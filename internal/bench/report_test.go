package main

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// written writes a report and gives the text of its Markdown and its JSON.
func written(t *testing.T, r *report) (md, js string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "results")
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]*string{"results.md": &md, "results.json": &js} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		*text = string(raw)
	}
	if !json.Valid([]byte(js)) {
		t.Errorf("no JSON: %s", js)
	}
	return md, js
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
}

func TestReportOfMissingValues(t *testing.T) {
	var all, one, none row
	all.Name, one.Name, none.Name = "all rounds", "one round", "no round"
	for _, v := range []float64{30, 10, 2000} {
		all.measured("rate", "events/s", v)
	}
	one.measured("rate", "events/s", 20)
	one.measured("delay", "ms", 1.234)
	none.measured("rate", "events/s", math.NaN())
	none.measured("rate", "events/s", math.Inf(1))
	none.measured("delay", "ms", 5)
	none.measured("delay", "ms", math.NaN())
	none.ratio("by all", "rate", &all)
	none.ratio("by none", "delay", &none)

	var printed strings.Builder
	r := newReport(&printed, false, 3)
	r.add(table{Part: "part", Title: "title", Text: "Text.", Rows: []row{all, one, none}})
	lines := []string{
		"|  | rate, events/s | delay, ms |  |",
		"| --- | ---: | ---: | --- |",
		"| all rounds | 30 (10–2,000) |  |  |",
		"| one round | 20 | 1.23 |  |",
		"| no round |  | 5 | rate: measured nothing in 2 of 2 rounds. delay: measured nothing in 1 of 2 rounds. |",
	}
	md, _ := written(t, r)
	wantLines(t, md, lines...)
	wantLines(t, printed.String(), lines...)
}

func TestReportNamesFailedParts(t *testing.T) {
	r := newReport(io.Discard, false, 3)
	r.failed("hot", errors.New("a disk is full\nand more"))
	md, js := written(t, r)
	wantLines(t, md, "**The part hot failed**, and has here what it had measured by then, if anything: a disk is full")
	if !strings.Contains(js, `"error": "a disk is full\nand more"`) {
		t.Errorf("no failure in %s", js)
	}
}

func TestChartWithoutValues(t *testing.T) {
	r := newReport(io.Discard, false, 3)
	r.chart("none", "No values", []bar{{name: "a", value: math.NaN()}, {name: "b"}})
	if len(r.charts) > 0 {
		t.Errorf("charts of nothing: %v", r.charts)
	}
	r.chart("some", "Some", []bar{{name: "left out", value: math.NaN()}, {name: "kept", value: 7}})
	if svg := r.charts["some.svg"]; strings.Contains(svg, "NaN") || strings.Contains(svg, "left out") || !strings.Contains(svg, ">kept<") {
		t.Errorf("chart with a value and one missing: %s", svg)
	}
}
