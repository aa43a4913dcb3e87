package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is the result of a run.
type report struct {
	head     string
	versions []string // of what was measured
	tables   strings.Builder
	out      io.Writer // where tables are printed as they come
}

// newReport describes the run, the machine and the disk of its data. Memory-backed
// folders are refused: an fsync costs nothing there, and how often one is needed is
// part of what is measured.
func newReport(b *bench, out io.Writer) (*report, error) {
	filesystem := output("stat", "-f", "-c", "%T", b.dir)
	if filesystem == "tmpfs" || filesystem == "ramfs" {
		return nil, fmt.Errorf("%s is in memory (%s), where an fsync costs nothing: name a folder on a disk with -dir", b.dir, filesystem)
	}
	fsync, err := fsyncTime(b.dir)
	if err != nil {
		return nil, err
	}
	head := fmt.Sprintf(`# Benchmark results

%s. The %s form: what is compared was measured in interleaved rounds, %d of them. A figure with brackets is the median, with the least and the most in the brackets; one without brackets was measured once.

%d cores (%s) and %s for everything together, %s. All data on %s, where an fsync after a small append takes %s ms.`,
		time.Now().UTC().Format("2 January 2006"), pick(b, "short", "full"), b.rounds,
		runtime.GOMAXPROCS(0), output("sh", "-c", "sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1"),
		output("sh", "-c", "sed -n 's/^MemTotal: *//p' /proc/meminfo"), output("uname", "-srm"), filesystem, number(fsync))
	return &report{head: head, versions: []string{"Go " + strings.TrimPrefix(runtime.Version(), "go")}, out: out}, nil
}

// output is a program's output: "" if it fails.
func output(name string, args ...string) string {
	text, _ := exec.Command(name, args...).Output()
	return strings.TrimSpace(string(text))
}

// fsyncTime is the median time of an fsync after appending a page, in ms, which is
// about what a commit waits for.
func fsyncTime(dir string) (float64, error) {
	file, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	var took []float64
	for range 51 {
		_, failure := file.Write(make([]byte, 8<<10))
		start := time.Now()
		err = errors.Join(err, failure, file.Sync())
		took = append(took, ms(time.Since(start)))
	}
	return median(took), err
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// row is one of the things compared.
type row struct {
	name   string
	names  []string             // of its figures, in the order in which they were added
	values map[string][]float64 // by name, one per round
}

// add adds a round's value to the row's figure with that name.
func (r *row) add(name string, value float64) {
	if r.values == nil {
		r.values = make(map[string][]float64)
	}
	if r.values[name] == nil {
		r.names = append(r.names, name)
	}
	r.values[name] = append(r.values[name], value)
}

// ratio adds a figure to r: values divided by others, round by round.
func (r *row) ratio(name string, values, others []float64) {
	for i := range values {
		r.add(name, values[i]/others[i])
	}
}

// String is the row's latest values, for the log.
func (r *row) String() string {
	text := r.name
	for _, name := range r.names {
		text += fmt.Sprintf("; %s: %s", name, number(r.values[name][len(r.values[name])-1]))
	}
	return text
}

// median is the middle value: NaN if there is none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// summary is the median, with minimum and maximum if there are several.
func summary(values []float64) string {
	text := number(median(values))
	if len(values) > 1 {
		text += fmt.Sprintf(" (%s–%s)", number(slices.Min(values)), number(slices.Max(values)))
	}
	return text
}

// number writes at least three digits, and thousands with commas.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsInf(v, 0) || math.IsNaN(v):
		return "–" // nothing was measured, or there was nothing to divide by
	case v == math.Trunc(v) && a < 1000:
		return fmt.Sprintf("%.0f", v)
	case a < 10:
		return fmt.Sprintf("%.2f", v)
	case a < 100:
		return fmt.Sprintf("%.1f", v)
	}
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// count is number for an integer.
func count(n int) string { return number(float64(n)) }

// add adds a table to the report, and prints it. text says what was done, how and with
// which settings: what a reader needs to repeat it, or to doubt it. There is a column
// for each figure, in the order in which they appear.
func (r *report) add(title, text string, rows []row) {
	var columns []string
	for _, row := range rows {
		for _, name := range row.names {
			if !slices.Contains(columns, name) {
				columns = append(columns, name)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n%s\n\n|  | %s |\n| --- |%s\n",
		title, strings.TrimSpace(text), strings.Join(columns, " | "), strings.Repeat(" ---: |", len(columns)))
	for _, row := range rows {
		cells := make([]string, len(columns))
		for name, values := range row.values {
			cells[slices.Index(columns, name)] = summary(values)
		}
		fmt.Fprintf(&b, "| %s | %s |\n", row.name, strings.Join(cells, " | "))
	}
	r.tables.WriteString(b.String())
	fmt.Fprint(r.out, b.String())
}

// write writes results.md into dir.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	versions := slices.Compact(slices.Sorted(slices.Values(r.versions))) // of each part's servers
	text := r.head + " " + strings.Join(versions, ", ") + ".\n" + r.tables.String()
	return os.WriteFile(filepath.Join(dir, "results.md"), []byte(text), 0o644)
}
