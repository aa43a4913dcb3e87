package deploy

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// ruleTests is a file of promtool's tests.
type ruleTests struct {
	RuleFiles          []string `yaml:"rule_files"`
	EvaluationInterval string   `yaml:"evaluation_interval"`
	GroupEvalOrder     []string `yaml:"group_eval_order,omitempty"`
	Tests              []ruleTest
}

type ruleTest struct {
	Name        string           `yaml:"name"`
	Interval    string           `yaml:"interval"`
	Series      []inputSeries    `yaml:"input_series"`
	Alerts      []alertTest      `yaml:"alert_rule_test,omitempty"`
	Expressions []expressionTest `yaml:"promql_expr_test"`
}

type inputSeries struct {
	Series string `yaml:"series"`
	Values string `yaml:"values"`
}

type alertTest struct {
	Name   string          `yaml:"alertname"`
	At     string          `yaml:"eval_time"`
	Alerts []expectedAlert `yaml:"exp_alerts"`
}

type expectedAlert struct {
	Labels map[string]string `yaml:"exp_labels"`
}

type expressionTest struct {
	Expr    string           `yaml:"expr"`
	At      string           `yaml:"eval_time"`
	Samples []expectedSample `yaml:"exp_samples,omitempty"`
}

type expectedSample struct {
	Labels string  `yaml:"labels"`
	Value  float64 `yaml:"value"`
}

// Where one Prometheus watches several environments, each rule and each alert sees one
// at a time: what goes well in one hides no fault of another. So all tests of a file are
// run as one, each as an environment of its own, and each must come out as it does
// alone. Producers and consumers are different jobs, as in Kubernetes, and what a pod or
// a node has on its own makes no difference.
func TestRulesKeepEnvironmentsApart(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("prometheus/tests/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			promtool(t, "test", "rules", together(t, file))
		})
	}
}

// A rule that names the labels to keep adds up over those that it does not know.
func TestRulesNameNoLabelsToKeep(t *testing.T) {
	t.Parallel()
	keeps := regexp.MustCompile(`\b(?:by|on) *\(`)
	for _, r := range rules(t) {
		if keeps.MatchString(r.Expr) {
			t.Errorf("%s%s: use without and ignoring in place of by and on: %s", r.Record, r.Alert, r.Expr)
		}
	}
}

// together writes a file with all tests of that file as environments of one.
func together(t *testing.T, file string) string {
	t.Helper()
	var tests ruleTests
	readYAML(t, file, &tests)
	all := ruleTest{Name: "all environments", Interval: tests.Tests[0].Interval}
	for i, test := range tests.Tests {
		if test.Interval != all.Interval {
			t.Fatalf("%s, %q has another interval than the first", file, test.Name)
		}
		environment := fmt.Sprintf("environment=%q", fmt.Sprint(i))
		for _, s := range test.Series {
			all.Series = append(all.Series, inputSeries{withLabels(s.Series, environment, targetLabels(s.Series)), s.Values})
		}
		for _, a := range test.Alerts {
			e := expressionTest{At: a.At, Expr: fmt.Sprintf(`max without (job, pod, node) (ALERTS{alertname=%q,alertstate="firing",%s})`, a.Name, environment)}
			for _, firing := range a.Alerts {
				labels := maps.Clone(firing.Labels)
				labels["alertname"], labels["alertstate"] = a.Name, "firing"
				e.Samples = append(e.Samples, expectedSample{withLabels(selectorOf(labels), environment), 1})
			}
			all.Expressions = append(all.Expressions, e)
		}
		recorded := regexp.MustCompile(`(?:group:\w+:\w+|ALERTS)(?:\{[^}]*\})?|\{[^}]*\}`)
		for _, e := range test.Expressions {
			e.Expr = fmt.Sprintf("max without (job, pod, node) (%s)", recorded.ReplaceAllStringFunc(e.Expr, func(s string) string { return withLabels(s, environment) }))
			for j, s := range e.Samples {
				_, labels, _ := strings.Cut(s.Labels, "{") // max drops the name
				e.Samples[j].Labels = withLabels("{"+labels, environment)
			}
			all.Expressions = append(all.Expressions, e)
		}
	}
	tests.Tests = []ruleTest{all}
	var err error
	for i, name := range tests.RuleFiles {
		if tests.RuleFiles[i], err = filepath.Abs(filepath.Join(filepath.Dir(file), name)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := yaml.Marshal(tests)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "together.yml")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// targetLabels are those that Kubernetes adds to a series.
func targetLabels(series string) string {
	job := "consumer"
	if strings.HasPrefix(series, "mailtally_webhooks_") {
		job = "producer"
	}
	instance := "none"
	if m := regexp.MustCompile(`instance="(\w+)"`).FindStringSubmatch(series); m != nil {
		instance = m[1]
	}
	return fmt.Sprintf("job=%q,pod=%q,node=%q", job, job+"-"+instance, "node-"+instance)
}

// withLabels adds labels to a selector, or to a series.
func withLabels(selector string, labels ...string) string {
	name, old, _ := strings.Cut(strings.TrimSuffix(selector, "}"), "{")
	if old != "" {
		labels = append([]string{old}, labels...)
	}
	return name + "{" + strings.Join(labels, ",") + "}"
}

func selectorOf(labels map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, fmt.Sprintf("%s=%q", name, labels[name]))
	}
	return "{" + strings.Join(pairs, ",") + "}"
}
