package deploy

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// expression is something that is asked of Prometheus.
type expression struct {
	where  string // who asks
	text   string // in PromQL, without Grafana's variables
	parsed parser.Expr
}

// substitute gives Grafana's variables the values that it would: "All" for those that
// can be chosen, and intervals that suit a Prometheus that has just started.
var substitute = strings.NewReplacer(
	"$__rate_interval", "10s", "$__range", "1m", "$group", ".*", "$instance", ".*")

// panelExpressions are the queries of all panels and annotations.
func panelExpressions(t *testing.T) []*expression {
	t.Helper()
	var all []*expression
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				all = append(all, &expression{where: fmt.Sprintf("%s, %q, %s", d.file, p.Title, q.RefID), text: q.Expr})
			}
		}
		for _, a := range d.Annotations.List {
			all = append(all, &expression{where: fmt.Sprintf("%s, annotation %q", d.file, a.Name), text: a.Target.Expr})
		}
	}
	parse(t, all)
	return all
}

// ruleExpressions are those of all rules.
func ruleExpressions(t *testing.T) []*expression {
	t.Helper()
	var all []*expression
	eachRule(t, func(rule rulefmt.Rule) {
		all = append(all, &expression{where: "rule " + rule.Record + rule.Alert, text: rule.Expr})
	})
	parse(t, all)
	return all
}

// runbookExpressions are those that the runbook has somebody ask.
func runbookExpressions(t *testing.T) []*expression {
	t.Helper()
	text, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []*expression
	for _, q := range regexp.MustCompile(`promtool query instant \$PROMETHEUS '([^']+)'`).FindAllSubmatch(text, -1) {
		all = append(all, &expression{where: "runbook", text: string(q[1])})
	}
	if len(all) == 0 {
		t.Fatal("the runbook asks nothing")
	}
	parse(t, all)
	return all
}

func parse(t *testing.T, all []*expression) {
	t.Helper()
	for _, e := range all {
		e.text = substitute.Replace(e.text)
		if strings.Contains(e.text, "$") {
			t.Fatalf("%s: a variable that the test does not know: %s", e.where, e.text)
		}
		var err error
		if e.parsed, err = parser.NewParser(parser.Options{}).ParseExpr(e.text); err != nil {
			t.Fatalf("%s: %v: %s", e.where, err, e.text)
		}
	}
}

// selectors are the selections of series that node makes, without offsets.
func selectors(node parser.Node) []*parser.VectorSelector {
	return selected(node, func(parser.Node) bool { return true })
}

// selected are the selections that node makes in those of its parts that are entered.
func selected(node parser.Node, enter func(parser.Node) bool) []*parser.VectorSelector {
	if s, ok := node.(*parser.VectorSelector); ok {
		return []*parser.VectorSelector{{Name: s.Name, LabelMatchers: s.LabelMatchers}}
	}
	var found []*parser.VectorSelector
	for child := range parser.ChildrenIter(node) {
		if enter(child) {
			found = append(found, selected(child, enter)...)
		}
	}
	return found
}

// takenForGranted are the labels, by metric, that an expression names: those it
// selects, aggregates and joins by.
func takenForGranted(expr parser.Expr) map[string][]string {
	filters := make(map[parser.Node]bool) // whose series are compared, and not passed on
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if b, ok := node.(*parser.BinaryExpr); ok && (b.Op == parser.LAND || b.Op == parser.LUNLESS) {
			filters[b.RHS] = true
		}
		return nil
	})
	named := make(map[string][]string)
	add := func(of []*parser.VectorSelector, labels ...string) {
		for _, s := range of {
			named[s.Name] = append(named[s.Name], labels...)
		}
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			for _, m := range n.LabelMatchers {
				if m.Name != model.MetricNameLabel {
					add(selectors(n), m.Name)
				}
			}
		case *parser.AggregateExpr:
			add(selected(n.Expr, func(part parser.Node) bool { return !filters[part] }), n.Grouping...)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				add(selectors(n), n.VectorMatching.MatchingLabels...)
			}
		}
		return nil
	})
	for metric, labels := range named {
		slices.Sort(labels)
		named[metric] = slices.Compact(labels)
	}
	return named
}
