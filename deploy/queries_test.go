package deploy

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// expression is a query to Prometheus.
type expression struct {
	where string // where the query is from
	text  string // in PromQL, without Grafana's variables
}

// substitute replaces Grafana's variables as Grafana would: "All" where there is a
// choice, and intervals that suit a Prometheus that has just started.
var substitute = strings.NewReplacer(
	"$__rate_interval", "10s", "$__range", "1m", "$group", ".*", "$instance", ".*")

// panelExpressions are the queries of all panels and annotations.
func panelExpressions(t *testing.T) (all []expression) {
	t.Helper()
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				all = append(all, expression{fmt.Sprintf("%s, %q, %s", d.file, p.Title, q.RefID), substitute.Replace(q.Expr)})
			}
		}
		for _, a := range d.Annotations.List {
			all = append(all, expression{fmt.Sprintf("%s, annotation %q", d.file, a.Name), substitute.Replace(a.Target.Expr)})
		}
	}
	return all
}

// ruleExpressions are those of all rules, and those in the runbook.
func ruleExpressions(t *testing.T) (all []expression) {
	t.Helper()
	for _, r := range rules(t) {
		all = append(all, expression{"rule " + r.Record + r.Alert, r.Expr})
	}
	text, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	asked := regexp.MustCompile(`promtool query instant \$PROMETHEUS '([^']+)'`).FindAllSubmatch(text, -1)
	if len(asked) == 0 {
		t.Fatalf("%s has no queries", runbookFile)
	}
	for _, q := range asked {
		all = append(all, expression{runbookFile, string(q[1])})
	}
	return all
}

// A selector with its labels; labels that must be there to join and group by; a label in
// a comparison.
var (
	selector = regexp.MustCompile(`(?:(?:group:)?(?:mailtally|pgxpool)_[\w:]+|\b(?:up|ALERTS)\b)(?:\{[^}]*\})?`)
	grouping = regexp.MustCompile(`\b(?:by|on|group_left|group_right) *\(([\w, ]+)\)`)
	matcher  = regexp.MustCompile(`[{,] *(\w+) *(?:=|!=|=~|!~) *"`)
)

// A real Prometheus that scrapes a running mailtally answers the queries of dashboards,
// rules and the runbook: every name in them exists, and they give numbers. (No Grafana
// is run here: only the queries are tested, not the drawing.)
func TestQueriesAreAnswered(t *testing.T) {
	t.Parallel()
	panels, others := panelExpressions(t), ruleExpressions(t)
	d := startDev(t, nil, "-rate", "200")
	// Targets as shipped, and as they are for somebody who sets no group label.
	for name, labels := range map[string]string{"group": "{group: mailtally}", "no group": "{}"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startPrometheus(t, scrapeConfig(t, d, labels))
			for _, e := range panels {
				p.answers(t, e)
			}
			asked := make(map[string]bool)
			for _, e := range slices.Concat(panels, others) {
				for _, s := range selector.FindAllString(e.text, -1) {
					if !asked[s] {
						p.answers(t, expression{e.where, s})
					}
					asked[s] = true
				}
			}
			for _, r := range rules(t) {
				if r.Record != "" {
					p.answers(t, expression{"rule " + r.Record, r.Record})
				}
			}
			exist := append(p.labels(t), "group") // without the label, all are one group
			for _, e := range slices.Concat(panels, others) {
				for _, label := range labelsOf(e.text) {
					if !slices.Contains(exist, label) || label == "job" { // whose value is up to the installation
						t.Errorf("%s: depends on a label %s: %s", e.where, label, e.text)
					}
				}
			}
			for _, d := range dashboards(t) {
				for _, panel := range d.Panels {
					await(t, fmt.Sprintf("%s, %q has the series that it names", d.file, panel.Title), func() error {
						return p.draws(t, panel)
					})
				}
				for _, v := range d.Templating.List {
					if v.Type == "query" {
						p.offers(t, d.file, v)
					}
				}
			}
		})
	}
}

// labelsOf are the labels that an expression selects, groups and joins by.
func labelsOf(expression string) (labels []string) {
	for _, m := range matcher.FindAllStringSubmatch(expression, -1) {
		labels = append(labels, m[1])
	}
	for _, g := range grouping.FindAllStringSubmatch(expression, -1) {
		for label := range strings.SplitSeq(g[1], ",") {
			labels = append(labels, strings.TrimSpace(label))
		}
	}
	return labels
}

// scrapeConfig has Prometheus scrape dev with those labels, and evaluate the shipped
// rules, plus one that fires at once. Each rule is evaluated every second.
func scrapeConfig(t *testing.T, d *dev, labels string) string {
	t.Helper()
	dir := t.TempDir()
	interval := regexp.MustCompile(`(?m)^ +interval: .*\n`)
	for _, file := range ruleFiles(t) {
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(file)), interval.ReplaceAll(text, nil), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	firing := "groups: [{name: test, rules: [{alert: MailtallyTest, expr: vector(1), labels: {severity: warning}}]}]"
	if err := os.WriteFile(filepath.Join(dir, "firing.yml"), []byte(firing), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
- job_name: anything
  static_configs: [{targets: [%q], labels: %s}]
`, filepath.Join(dir, "*.yml"), d.admin(), labels)
}

// answers waits until an expression gives numbers.
func (p *prometheus) answers(t *testing.T, e expression) {
	t.Helper()
	await(t, e.where, func() error {
		got, err := p.query(t, e.text)
		if err != nil {
			return err
		}
		if len(got) == 0 {
			return fmt.Errorf("no data: %s", e.text)
		}
		for _, s := range got {
			if math.IsNaN(s.Value) || math.IsInf(s.Value, 0) {
				return fmt.Errorf("%v of %v: %s", s.Value, s.Metric, e.text)
			}
		}
		return nil
	})
}

// draws returns an error if a panel's legend names a label that its series lack, or a
// color override matches none of them.
func (p *prometheus) draws(t *testing.T, panel panel) error {
	label := regexp.MustCompile(`{{(\w+)}}`)
	var names []string
	for _, q := range panel.Targets {
		got, err := p.query(t, substitute.Replace(q.Expr))
		if err != nil {
			return err
		}
		for _, s := range got {
			for _, l := range label.FindAllStringSubmatch(q.LegendFormat, -1) {
				if l[1] != "group" && s.Metric[l[1]] == "" {
					return fmt.Errorf("a series without the %s of its legend: %v", l[1], s.Metric)
				}
			}
			names = append(names, label.ReplaceAllStringFunc(q.LegendFormat, func(name string) string {
				return s.Metric[strings.Trim(name, "{}")]
			}))
		}
	}
	for _, o := range panel.FieldConfig.Overrides {
		is := func(name string) bool { return name == o.Matcher.Options }
		if o.Matcher.ID == "byRegexp" {
			is = regexp.MustCompile(strings.Trim(o.Matcher.Options, "/")).MatchString
		}
		if !slices.ContainsFunc(names, is) {
			return fmt.Errorf("no series %q among %q", o.Matcher.Options, names)
		}
	}
	return nil
}

// offers checks that a dashboard's variable has values to choose from.
func (p *prometheus) offers(t *testing.T, dashboard string, v variable) {
	t.Helper()
	asks := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(substitute.Replace(v.query(t)))
	if asks == nil {
		t.Errorf("%s, variable %s: %q is not understood", dashboard, v.Name, v.query(t))
		return
	}
	got, err := p.query(t, fmt.Sprintf(`group by (%s) (%s)`, asks[2], asks[1]))
	if err != nil || len(got) == 0 || asks[2] != "group" && got[0].Metric[asks[2]] == "" {
		t.Errorf("%s, variable %s has no values: %v %v", dashboard, v.Name, got, err)
	}
}

// labels are those that any series has.
func (p *prometheus) labels(t *testing.T) []string {
	t.Helper()
	body, err := get(t.Context(), "http://"+p.addr+"/api/v1/labels")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Data []string }
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Data
}
