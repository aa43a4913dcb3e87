package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The dashboards match the types that Grafana publishes for them, and mistakes are
// found: grafana/schema says how. The test works on a copy, with its own packages.
func TestDashboardsFollowGrafanasSchema(t *testing.T) {
	t.Parallel()
	npm := program(t, "npm", "npm")
	program(t, "node", "nodejs")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("grafana")); err != nil {
		t.Fatal(err)
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

	// Mistakes that Grafana's own types allow, each in a dashboard of its own, so that
	// none hides another.
	text, err := os.ReadFile("grafana/dashboards/overview.json")
	if err != nil {
		t.Fatal(err)
	}
	faults := map[string][2]string{ // what is right, and what is wrong
		"property":     {`"graphTooltip": 1`, `"graphTooltop": 1`},
		"value":        {`"mode": "thresholds"`, `"mode": "treshold"`},
		"option":       {`"graphMode": "none"`, `"graphMood": "none"`},
		"option-value": {`"displayMode": "table"`, `"displayMode": "tabel"`},
		"field":        {`"lineWidth": 2`, `"lineWith": 2`},
		"override":     {`"id": "color"`, `"id": "colour"`},
		"unit":         {`"unit": "reqps"`, `"unit": "requests"`},
		"query":        {`"legendFormat":`, `"legendformat":`},
	}
	for name, fault := range faults {
		broken := strings.Replace(string(text), fault[0], fault[1], 1)
		if broken == string(text) {
			t.Fatalf("%s: nothing to break: %s not found", name, fault[0])
		}
		if err := os.WriteFile(filepath.Join(dir, "dashboards", name+".json"), []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := run("run", "check")
	for name, fault := range faults {
		if err == nil || !strings.Contains(out, name+".json") {
			t.Errorf("%s in place of %s, and the check says: %v\n%s", fault[1], fault[0], err, out)
		}
	}
}
