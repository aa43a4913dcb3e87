package deploy

import (
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// ruleFiles are the rules that are shipped, by the name of their file.
func ruleFiles(t *testing.T) map[string]*rulefmt.RuleGroups {
	t.Helper()
	files, err := filepath.Glob("prometheus/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	rules := make(map[string]*rulefmt.RuleGroups)
	for _, file := range files {
		if filepath.Base(file) != "prometheus.yml" {
			groups, errs := rulefmt.ParseFile(file, false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.Default())
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			rules[file] = groups
		}
	}
	if len(rules) == 0 {
		t.Fatal("there are no rules")
	}
	return rules
}

// eachRule calls f with every rule that is shipped.
func eachRule(t *testing.T, f func(rulefmt.Rule)) {
	t.Helper()
	for _, file := range ruleFiles(t) {
		for _, group := range file.Groups {
			for _, rule := range group.Rules {
				f(rule)
			}
		}
	}
}

// alertNames are those that the runbook explains.
func alertNames(t *testing.T) []string {
	t.Helper()
	var names []string
	eachRule(t, func(rule rulefmt.Rule) {
		if rule.Alert != "" && !slices.Contains(names, rule.Alert) {
			names = append(names, rule.Alert)
		}
	})
	return names
}
