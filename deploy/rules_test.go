package deploy

import (
	"path/filepath"
	"slices"
	"testing"
)

// rule is the part of a recording rule, or of an alert, that the tests read. promtool
// checks that it is valid.
type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

// ruleFiles are the shipped files of rules.
func ruleFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("prometheus/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(file string) bool { return filepath.Base(file) == "prometheus.yml" })
	if len(files) == 0 {
		t.Fatal("there are no rules")
	}
	return files
}

// rules are all shipped rules.
func rules(t *testing.T) (all []rule) {
	t.Helper()
	for _, file := range ruleFiles(t) {
		var content struct{ Groups []struct{ Rules []rule } }
		readYAML(t, file, &content)
		for _, group := range content.Groups {
			all = append(all, group.Rules...)
		}
	}
	return all
}
