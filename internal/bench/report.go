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
	Failed  []failure `json:"failed,omitempty"`
	Tables  []table   `json:"tables"`

	out    io.Writer         // where tables are printed as they come
	charts map[string]string // SVG by file name
}

// failure is a part that did not come to its end.
type failure struct {
	Part  string `json:"part"`
	Error string `json:"error"`
}

// table compares things that were measured in the same rounds.
type table struct {
	Part  string `json:"part"`
	Title string `json:"title"`
	// Text says what was done and on what settings: what a reader needs to repeat
	// it, or to doubt it. And what the rounds are, where they are not the report's.
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
	Name    string    `json:"name"`
	Unit    string    `json:"unit"`
	Values  []float64 `json:"values"`            // one a round
	Missing int       `json:"missing,omitempty"` // rounds that measured nothing
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

// failed has a part in the report that did not come to its end.
func (r *report) failed(part string, err error) {
	r.Failed = append(r.Failed, failure{part, err.Error()})
}

// figure gives a row's figure with that name, made if missing.
func (r *row) figure(name, unit string) *figure {
	i := slices.IndexFunc(r.Figures, func(f figure) bool { return f.Name == name })
	if i < 0 {
		r.Figures = append(r.Figures, figure{Name: name, Unit: unit, Values: []float64{}})
		i = len(r.Figures) - 1
	}
	return &r.Figures[i]
}

// measured adds a round's value to the row's figure with that name. A round in
// which there was nothing to divide by has none.
func (r *row) measured(name, unit string, value float64) {
	f := r.figure(name, unit)
	if math.IsNaN(value) || math.IsInf(value, 0) {
		f.Missing++
		return
	}
	f.Values = append(f.Values, value)
}

// ratio adds a figure to r: its own figure with the name of, divided by base's,
// round by round. Where a round measured nothing it is not known which values
// belong together, and there is no ratio.
func (r *row) ratio(name, of string, base *row) {
	own, other := *r.figure(of, ""), *base.figure(of, "")
	if own.Missing+other.Missing > 0 {
		return
	}
	for i := range min(len(own.Values), len(other.Values)) {
		r.measured(name, "×", own.Values[i]/other.Values[i])
	}
}

// last is the latest value of the row's figure: NaN if there is none.
func (r *row) last(name string) float64 {
	values := r.figure(name, "").Values
	if len(values) == 0 {
		return math.NaN()
	}
	return values[len(values)-1]
}

// note is the row's own, and which figures rounds are missing from.
func (r *row) note() string {
	note := r.Note
	for _, f := range r.Figures {
		if f.Missing > 0 {
			note += fmt.Sprintf(" %s: measured nothing in %d of %d rounds.", f.Name, f.Missing, f.Missing+len(f.Values))
		}
	}
	return strings.TrimSpace(note)
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
	var columns []string // by name, in order of appearance
	head, rule := []string{""}, []string{"---"}
	notes := false
	for _, r := range t.Rows {
		notes = notes || r.note() != ""
		for _, f := range r.Figures {
			if slices.Contains(columns, f.Name) {
				continue
			}
			columns = append(columns, f.Name)
			name := f.Name
			if f.Unit != "" && f.Unit != "×" && !strings.Contains(name, f.Unit) {
				name += ", " + f.Unit
			}
			head, rule = append(head, name), append(rule, "---:")
		}
	}
	if notes {
		head, rule = append(head, ""), append(rule, "---")
	}
	lines := [][]string{head, rule}
	for _, r := range t.Rows {
		line := []string{r.Name}
		for _, name := range columns {
			line = append(line, r.figure(name, "").String())
		}
		if notes {
			line = append(line, r.note())
		}
		lines = append(lines, line)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s: %s\n\n%s\n\n", t.Part, t.Title, strings.TrimSpace(t.Text))
	for _, line := range lines {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(line, " | "))
	}
	return b.String()
}

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Benchmark results

%s. The %s form: what is compared was measured in interleaved rounds, %d of them where a table does not say otherwise. A figure with brackets is the median, with the least and the most in the brackets; one without brackets was measured once.

%s
`, r.When.Format("2 January 2006"), r.Form, r.Rounds, r.Machine.markdown())
	for _, f := range r.Failed {
		why, _, _ := strings.Cut(f.Error, "\n") // what follows are a program's last words
		fmt.Fprintf(&b, "\n**The part %s failed**, and has here what it had measured by then, if anything: %s\n", f.Part, why)
	}
	for _, t := range r.Tables {
		b.WriteString(t.markdown())
	}
	return b.String()
}

// write writes results.md, results.json and the charts into dir: what a reader
// needs first, should something not be writable.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file := func(name, text string) error {
		return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
	}
	if err := file("results.md", r.markdown()); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report as JSON: %w", err)
	}
	if err := file("results.json", string(text)+"\n"); err != nil {
		return err
	}
	for name, svg := range r.charts {
		if err := file(name, svg); err != nil {
			return err
		}
	}
	return nil
}
