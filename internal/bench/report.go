package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// report is what a run found out.
type report struct {
	When    time.Time `json:"when"`
	Form    string    `json:"form"` // short or full
	Rounds  int       `json:"rounds"`
	Machine machine   `json:"machine"`
	Tables  []table   `json:"tables"`

	out    io.Writer         // where tables are printed as they come
	charts map[string]string // SVG by file name
}

// table compares things that were measured in the same rounds.
type table struct {
	Part  string `json:"part"`
	Title string `json:"title"`
	// Text says what was done and on what settings: what a reader needs to repeat
	// it, or to doubt it.
	Text string `json:"text"`
	Rows []row  `json:"rows"`
}

// row is one of the things compared.
type row struct {
	Name    string   `json:"name"`
	Figures []figure `json:"figures"`
	Note    string   `json:"note,omitempty"` // what else was seen: what it lost, say
}

// figure is one thing that was measured of a row.
type figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"` // one a round
}

func newReport(out io.Writer, full bool, rounds int) *report {
	form := "short"
	if full {
		form = "full"
	}
	return &report{When: time.Now().UTC().Truncate(time.Second), Form: form, Rounds: rounds, Machine: thisMachine(), out: out, charts: make(map[string]string)}
}

// add has a table in the report, and prints it.
func (r *report) add(t table) {
	r.Tables = append(r.Tables, t)
	fmt.Fprint(r.out, t.markdown())
}

// figure gives a row's figure with that name, made if missing.
func (r *row) figure(name, unit string) *figure {
	i := slices.IndexFunc(r.Figures, func(f figure) bool { return f.Name == name })
	if i < 0 {
		r.Figures = append(r.Figures, figure{Name: name, Unit: unit})
		i = len(r.Figures) - 1
	}
	return &r.Figures[i]
}

// measured adds a round's value to the row's figure with that name.
func (r *row) measured(name, unit string, value float64) {
	f := r.figure(name, unit)
	f.Values = append(f.Values, value)
}

// ratio adds a figure to r: its own figure with the name of, divided by base's,
// round by round.
func (r *row) ratio(name, of string, base *row) {
	own, other := r.figure(of, "").Values, base.figure(of, "").Values
	for i := range min(len(own), len(other)) {
		r.measured(name, "×", own[i]/other[i])
	}
}

// median is the middle value: NaN if there is none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func (f figure) String() string {
	if len(f.Values) == 0 {
		return ""
	}
	text := number(median(f.Values))
	if len(f.Values) > 1 {
		text += fmt.Sprintf(" (%s–%s)", number(slices.Min(f.Values)), number(slices.Max(f.Values)))
	}
	return text
}

// number writes three digits at least, and thousands with commas.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1000:
		return fmt.Sprintf("%.0f", v)
	case a < 10:
		return fmt.Sprintf("%.2f", v)
	case a < 100:
		return fmt.Sprintf("%.1f", v)
	case a < 1000:
		return fmt.Sprintf("%.0f", v)
	}
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func (t table) markdown() string {
	var columns []figure // names and units, in order of appearance
	notes := false
	for _, r := range t.Rows {
		notes = notes || r.Note != ""
		for _, f := range r.Figures {
			if !slices.ContainsFunc(columns, func(c figure) bool { return c.Name == f.Name }) {
				columns = append(columns, f)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s: %s\n\n%s\n\n|", t.Part, t.Title, strings.TrimSpace(t.Text))
	rule := "\n|---|"
	head := func(text, align string) { b.WriteString(" " + text + " |"); rule += align + "|" }
	for _, c := range columns {
		name := c.Name
		if c.Unit != "" && c.Unit != "×" && !strings.Contains(name, c.Unit) {
			name += ", " + c.Unit
		}
		if b.String()[b.Len()-1] == '|' && len(rule) == len("\n|---|") {
			b.WriteString(" |")
		}
		head(name, "---:")
	}
	if notes {
		head("", "---")
	}
	b.WriteString(rule)
	for _, r := range t.Rows {
		fmt.Fprintf(&b, "\n| %s |", r.Name)
		for _, c := range columns {
			i := slices.IndexFunc(r.Figures, func(f figure) bool { return f.Name == c.Name })
			if i < 0 {
				b.WriteString(" |")
				continue
			}
			fmt.Fprintf(&b, " %s |", r.Figures[i])
		}
		if notes {
			fmt.Fprintf(&b, " %s |", r.Note)
		}
	}
	b.WriteString("\n")
	return b.String()
}

// write writes results.md, results.json and the charts into dir.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var md strings.Builder
	fmt.Fprintf(&md, "# Benchmark results\n\n%s. The %s form, %d interleaved rounds: medians, with the least and the most in brackets.\n\n%s\n",
		r.When.Format("2 January 2006"), r.Form, r.Rounds, r.Machine.markdown())
	for _, t := range r.Tables {
		md.WriteString(t.markdown())
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	files := map[string]string{"results.md": md.String(), "results.json": string(text) + "\n"}
	for name, svg := range r.charts {
		files[name] = svg
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
