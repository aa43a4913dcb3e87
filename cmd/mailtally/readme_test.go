package main

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// readmeTable finds the table rows of the README whose first cell is a name like
// pattern in backticks, and returns their second cells.
func readmeTable(t *testing.T, pattern string) map[string]string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `("+pattern+")` *\\|([^|]*)\\|").FindAllStringSubmatch(string(readme), -1) {
		if _, twice := rows[row[1]]; twice {
			t.Errorf("the README has two rows for %s", row[1])
		}
		rows[row[1]] = strings.TrimSpace(row[2])
	}
	return rows
}

func TestREADME_Configuration(t *testing.T) {
	t.Parallel()
	rows := readmeTable(t, "[A-Z][A-Z0-9_]+")
	for _, field := range reflect.VisibleFields(reflect.TypeFor[config]()) {
		name := field.Tag.Get("env")
		if name == "" {
			continue
		}
		row, found := rows[name]
		if !found {
			t.Errorf("%s is missing", name)
		}
		want := field.Tag.Get("envDefault")
		if want != "" {
			want = "`" + want + "`"
		}
		if row != want {
			t.Errorf("default of %s is given as %q, want %q", name, row, want)
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("there is no variable %s", name)
	}
}

func TestREADME_Metrics(t *testing.T) {
	t.Parallel()
	environ := migrated(t)
	_, gateway := start(t, environ, "producer").addresses()
	_, member := start(t, environ, "consumer").addresses()
	rows := readmeTable(t, "mailtally_[a-z_]+")
	eventually(t, func() error {
		families := metrics(t, gateway)
		maps.Copy(families, metrics(t, member))
		var registered []string
		for name := range families {
			if strings.HasPrefix(name, "mailtally_") && !strings.HasPrefix(name, "mailtally_kafka_") {
				registered = append(registered, name)
			}
		}
		slices.Sort(registered)
		// The lag has no series before the member has its partitions.
		return same("metrics in the README", strings.Join(slices.Sorted(maps.Keys(rows)), "\n"), strings.Join(registered, "\n"))
	})
}
