package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The dashboards are of the types that Grafana publishes for them, and what is not
// is found: grafana/schema says how. It works on a copy, with packages of its own.
func TestDashboardsFollowGrafanasSchema(t *testing.T) {
	t.Parallel()
	npm := program(t, "npm", "npm")
	program(t, "node", "nodejs")
	dir := t.TempDir()
	for _, pattern := range []string{"schema/*.js*", "schema/*.ts", "schema/.[gn]*", "dashboards/*.json"} {
		files, err := filepath.Glob("grafana/" + pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files: %v", pattern, err)
		}
		for _, file := range files {
			if err := copyInto(file, filepath.Join(dir, strings.TrimPrefix(file, "grafana/"))); err != nil {
				t.Fatal(err)
			}
		}
	}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), npm, args...)
		cmd.Dir = filepath.Join(dir, "schema")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("ci", "--no-audit", "--no-fund"); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if out, err := run("run", "check"); err != nil {
		t.Fatalf("npm run check: %v\n%s", err, out)
	}

	text, err := os.ReadFile("grafana/dashboards/overview.json")
	if err != nil {
		t.Fatal(err)
	}
	// Several faults at once, a dashboard each, where one does not hide another.
	for _, faults := range [][]struct{ name, right, wrong string }{
		{
			{"property", `"graphTooltip": 1`, `"graphTooltop": 1`},
			{"value", `"mode": "thresholds"`, `"mode": "treshold"`},
			{"option", `"graphMode": "none"`, `"graphMood": "none"`},
			{"option-value", `"displayMode": "table"`, `"displayMode": "tabel"`},
			{"field", `"lineWidth": 2`, `"lineWith": 2`},
			{"override", `"id": "color"`, `"id": "colour"`},
			{"unit", `"unit": "reqps"`, `"unit": "requests"`},
			{"query", `"legendFormat":`, `"legendformat":`},
		},
		{{"old", `"schemaVersion": 42`, `"schemaVersion": 41`}},
		{{"format", `"id": 1,`, `"id":  1,`}},
	} {
		for _, f := range faults {
			broken := strings.Replace(string(text), f.right, f.wrong, 1)
			if broken == string(text) {
				t.Fatalf("%s: nothing to break: no %s", f.name, f.right)
			}
			if err := os.WriteFile(filepath.Join(dir, "dashboards", f.name+".json"), []byte(broken), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := run("run", "check")
		for _, f := range faults {
			if err == nil || !strings.Contains(out, f.name+".json") {
				t.Errorf("%s in place of %s, and the check says: %v\n%s", f.wrong, f.right, err, out)
			}
			if err := os.Remove(filepath.Join(dir, "dashboards", f.name+".json")); err != nil {
				t.Fatal(err)
			}
		}
	}
}
