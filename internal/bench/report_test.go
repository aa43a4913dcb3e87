package main

import (
	"math"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	var all, one row
	all.name, one.name = "all rounds", "one round"
	for _, v := range []float64{30, 10, 2000} {
		all.add("rate, events/s", v)
	}
	one.add("rate, events/s", 20)
	one.add("delay, ms", 1.234)
	all.add("by all", math.Inf(1))
	one.ratio("by all", one.values["rate, events/s"], all.values["rate, events/s"])
	var printed strings.Builder
	r := &report{out: &printed}
	r.add("title", "Text.", []row{all, one})
	for _, line := range []string{
		"## title",
		"|  | rate, events/s | by all | delay, ms |",
		"| --- | ---: | ---: | ---: |",
		"| all rounds | 30 (10–2,000) | – |  |",
		"| one round | 20 | 0.67 | 1.23 |",
	} {
		if !strings.Contains(printed.String(), "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, printed.String())
		}
	}
	if got := printed.String(); got != r.tables.String() {
		t.Errorf("printed %q, the report has %q", got, r.tables.String())
	}
}
