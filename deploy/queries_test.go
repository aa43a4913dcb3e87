package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/rulefmt"
)

// What dashboards, rules and the runbook ask is answered by a real Prometheus that scrapes a
// running mailtally: whatever is asked names what exists, and gives numbers. (A
// Grafana cannot be had here: it is the queries that are tried, not the drawing.)
func TestQueriesAreAnswered(t *testing.T) {
	t.Parallel()
	panels, rules := panelExpressions(t), slices.Concat(ruleExpressions(t), runbookExpressions(t))
	d := startDev(t, nil, "-rate", "200")
	// Targets as they are shipped, and as somebody has them who gives no group.
	for name, labels := range map[string]string{"group": "{group: mailtally}", "no group": "{}"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startPrometheus(t, scrapeConfig(t, d, labels))
			t.Run("panels", func(t *testing.T) {
				for _, e := range panels {
					p.answers(t, e)
				}
			})
			t.Run("rules", func(t *testing.T) {
				eachRule(t, func(rule rulefmt.Rule) {
					if rule.Record != "" {
						p.answers(t, &expression{where: "rule " + rule.Record, text: rule.Record})
					}
				})
				for _, e := range rules {
					for _, s := range selectors(e.parsed) {
						p.answers(t, &expression{where: e.where, text: s.String()})
					}
				}
			})
			if name != "group" {
				return
			}
			t.Run("metrics", func(t *testing.T) {
				known := exposed(t, d)
				eachRule(t, func(rule rulefmt.Rule) { known[rule.Record] = true })
				for _, name := range []string{"up", "ALERTS"} {
					known[name] = true
				}
				for _, e := range slices.Concat(panels, rules) {
					for metric, labels := range takenForGranted(e.parsed) {
						if !known[metric] {
							t.Errorf("%s: there is no metric %s", e.where, metric)
							continue
						}
						exist := p.labels(t, metric)
						for _, label := range labels {
							if !exist[label] {
								t.Errorf("%s: %s has no label %s, it has %v", e.where, metric, label, slices.Sorted(maps.Keys(exist)))
							}
							if label == "job" {
								t.Errorf("%s: depends on how a job is called", e.where)
							}
						}
					}
				}
			})
			t.Run("legends", func(t *testing.T) {
				for _, d := range dashboards(t) {
					for _, panel := range d.Panels {
						await(t, fmt.Sprintf("%s, %q has a series for each color", d.file, panel.Title), func() error {
							return p.coloured(t, panel)
						})
					}
				}
			})
			t.Run("variables", func(t *testing.T) {
				values := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
				for _, d := range dashboards(t) {
					for _, v := range d.Templating.List {
						if v.Type == "datasource" {
							continue
						}
						asks := values.FindStringSubmatch(substitute.Replace(v.query(t)))
						if asks == nil {
							t.Errorf("%s, variable %s: %q is not understood", d.file, v.Name, v.query(t))
							continue
						}
						got, err := p.query(t, fmt.Sprintf(`group by (%s) (%s)`, asks[2], asks[1]))
						if err != nil || len(got) == 0 || got[0].Metric[asks[2]] == "" {
							t.Errorf("%s, variable %s has no values: %v %v", d.file, v.Name, got, err)
						}
					}
				}
			})
		})
	}
}

// scrapeConfig has Prometheus scrape dev with those labels, and follow the shipped
// rules, and one that fires at once. Each rule is evaluated every second.
func scrapeConfig(t *testing.T, d *dev, labels string) string {
	t.Helper()
	dir := t.TempDir()
	interval := regexp.MustCompile(`(?m)^ +interval: .*\n`)
	for file := range ruleFiles(t) {
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

// answers awaits numbers for an expression.
func (p *prometheus) answers(t *testing.T, e *expression) {
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

// coloured is whether a panel has a series of each name that it gives a color to.
func (p *prometheus) coloured(t *testing.T, panel panel) error {
	label := regexp.MustCompile(`{{(\w+)}}`)
	var names []string
	for _, q := range panel.Targets {
		got, err := p.query(t, substitute.Replace(q.Expr))
		if err != nil {
			return err
		}
		for _, s := range got {
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

// exposed are the names of the series in a scrape.
func exposed(t *testing.T, d *dev) map[string]bool {
	t.Helper()
	text, err := get(t.Context(), "http://"+d.admin()+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, name := range regexp.MustCompile(`(?m)^\w+`).FindAllString(string(text), -1) {
		names[name] = true
	}
	return names
}

// labels are those that a metric's series have.
func (p *prometheus) labels(t *testing.T, metric string) map[string]bool {
	t.Helper()
	body, err := get(t.Context(), "http://"+p.addr+"/api/v1/series?match[]="+url.QueryEscape(metric))
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Data []map[string]string }
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, series := range answer.Data {
		for name := range series {
			names[name] = true
		}
	}
	return names
}
