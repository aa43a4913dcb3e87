package deploy

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	alertsFile = "prometheus/alerts.yml"
	rulesFile  = "prometheus/rules.yml"

	// The runbook, and the URL by which alerts and panels link to it.
	runbookFile = "../" + runbookPath
	runbook     = "https://github.com/mailtally/mailtally/blob/main/" + runbookPath
	runbookPath = "deploy/runbook.md"
)

// promtool runs promtool, and fails the test if that fails.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program(t, "promtool", "prometheus"), args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, out.Bytes())
	}
}

// The severities of each alert's rules, as the runbook promises them.
var alerts = map[string][]string{
	"MailtallyWebhooksRefused":       {"critical", "warning"},
	"MailtallyKafkaNotAcknowledging": {"critical"},
	"MailtallyNoWebhooks":            {"critical"},
	"MailtallyConsumerLagGrowing":    {"critical"},
	"MailtallyPartitionStuck":        {"critical"},
	"MailtallyConsumerGroupEmpty":    {"critical"},
	"MailtallyEventsLate":            {"critical", "warning"},
	"MailtallyDeadLetters":           {"warning"},
	"MailtallyDeadLettersNotWritten": {"critical"},
	"MailtallyFirstOpensStopped":     {"warning"},
	"MailtallyNotReconciled":         {"critical"},
	"MailtallyDatabaseSlow":          {"warning"},
	"MailtallyPartitionsNotMade":     {"warning"},
	"MailtallyVacuumHeldBack":        {"warning"},
	"MailtallyDatabaseAway":          {"critical"},
	"MailtallyDroppingStopped":       {"critical"},
	"MailtallyRecordsLost":           {"critical"},
}

// Each alert says how bad it is, what it means and where to read what to do. The
// runbook has a heading for each, and no others.
func TestAlertsHaveRunbook(t *testing.T) {
	t.Parallel()
	found := make(map[string][]string)
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		found[r.Alert] = append(found[r.Alert], r.Labels["severity"])
		for _, name := range []string{"summary", "description"} {
			if r.Annotations[name] == "" {
				t.Errorf("%s has no %s", r.Alert, name)
			}
		}
		if got, want := r.Annotations["runbook_url"], runbook+"#"+strings.ToLower(r.Alert); got != want {
			t.Errorf("%s: runbook_url %s, want %s", r.Alert, got, want)
		}
	}
	for name, want := range alerts {
		if got := found[name]; !slices.Equal(got, want) {
			t.Errorf("%s has rules of severity %q, want %q", name, got, want)
		}
		delete(found, name)
	}
	for name := range found {
		t.Errorf("%s is in %s, but not in the list of alerts", name, alertsFile)
	}

	text, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	headings := make(map[string]int)
	for _, h := range regexp.MustCompile(`(?m)^#+ (Mailtally\w+)$`).FindAllSubmatch(text, -1) {
		headings[string(h[1])]++
	}
	for name := range alerts {
		if headings[name] != 1 {
			t.Errorf("%s has %d headings %q, want 1", runbookFile, headings[name], name)
		}
		delete(headings, name)
	}
	for name := range headings {
		t.Errorf("%s has a heading %q, which is not an alert", runbookFile, name)
	}
}

// promtool accepts the rules, and its tests in prometheus/tests pass.
func TestRules(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "config", "prometheus/prometheus.yml") // and the rules that it names
	files, err := filepath.Glob("prometheus/tests/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			promtool(t, "test", "rules", file)
		})
	}
}

// Each alert has a promtool test in which it fires, with each of its severities, and
// tests in which it does not. Each recording rule has a test.
func TestRulesAreTested(t *testing.T) {
	t.Parallel()
	type expected struct {
		Labels map[string]string `yaml:"exp_labels"`
	}
	type unitTests struct {
		Tests []struct {
			Alerts []struct {
				Name   string     `yaml:"alertname"`
				Alerts []expected `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
			Expressions []struct{ Expr string } `yaml:"promql_expr_test"`
		}
	}
	files, err := filepath.Glob("prometheus/tests/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	fires, quiet := make(map[string]int), make(map[string]int) // fires by name and severity
	var expressions strings.Builder
	for _, file := range files {
		var content unitTests
		readYAML(t, file, &content)
		for _, test := range content.Tests {
			for _, a := range test.Alerts {
				if len(a.Alerts) == 0 {
					quiet[a.Name]++
				}
				for _, e := range a.Alerts {
					fires[a.Name+" "+e.Labels["severity"]]++
				}
			}
			for _, e := range test.Expressions {
				expressions.WriteString(e.Expr + "\n")
			}
		}
	}
	for name, severities := range alerts {
		for _, severity := range severities {
			if fires[name+" "+severity] == 0 {
				t.Errorf("%s never fires as %s in a test", name, severity)
			}
		}
		if quiet[name] < 3 {
			t.Errorf("%s has %d near misses in the tests, want at least 3", name, quiet[name])
		}
	}
	for _, r := range rules(t) {
		if !strings.Contains(expressions.String(), r.Record) { // an alert's is ""
			t.Errorf("%s is in no test", r.Record)
		}
	}
}
