package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailtally/mailtally/tracking"
	"github.com/mailtally/mailtally/tracking/provider"
	"github.com/mailtally/mailtally/tracking/provider/postmark"
	"github.com/mailtally/mailtally/tracking/provider/resend"
)

const (
	root              = "../../"
	readmePage        = root + "README.md"
	configurationPage = root + "docs/configuration.md"
	operationsPage    = root + "docs/operations.md"
	providersPage     = root + "docs/providers.md"
)

func readText(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// table gives the one table below a page's heading: the cells of its rows, without the
// header.
func table(t *testing.T, page, heading string) (rows [][]string) {
	t.Helper()
	_, section, found := strings.Cut(readText(t, page), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("%s has no heading %q", page, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "|") {
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows = append(rows, cells)
		}
	}
	if len(rows) < 3 {
		t.Fatalf("%s, %q: no table", page, heading)
	}
	return rows[2:]
}

// names gives what a cell has in backticks.
func names(cell string) (list []string) {
	for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
		list = append(list, name[1])
	}
	return list
}

// first gives the names in the first cells, in order.
func first(rows [][]string) (list []string) {
	for _, cells := range rows {
		list = append(list, names(cells[0])...)
	}
	slices.Sort(list)
	return list
}

func sameNames(t *testing.T, what string, documented, real []string) {
	t.Helper()
	slices.Sort(real)
	if err := same(what, strings.Join(documented, "\n"), strings.Join(real, "\n")); err != nil {
		t.Error(err)
	}
}

// Each variable has a row, with its default and its help.
func TestDocs_Configuration(t *testing.T) {
	t.Parallel()
	rows := make(map[string][]string)
	for _, cells := range table(t, configurationPage, "Variables") {
		rows[names(cells[0])[0]] = cells
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[config]()) {
		name := field.Tag.Get("env")
		if name == "" {
			continue
		}
		cells, found := rows[name]
		if !found {
			t.Errorf("%s is missing", name)
			continue
		}
		delete(rows, name)
		if preset := strings.Trim(cells[1], "`"); preset != field.Tag.Get("envDefault") {
			t.Errorf("default of %s is given as %q, want %q", name, preset, field.Tag.Get("envDefault"))
		}
		if says, help := strings.ReplaceAll(cells[2], "`", ""), field.Tag.Get("help"); !strings.Contains(says, help) {
			t.Errorf("%s is said to be %q, want %q in it", name, says, help)
		}
	}
	for name := range rows {
		t.Errorf("there is no variable %s", name)
	}
}

func TestDocs_Metrics(t *testing.T) {
	t.Parallel()
	documented := strings.Join(first(table(t, operationsPage, "Metrics")), "\n")
	environ := migrated(t)
	_, gateway := start(t, environ, "producer").addresses()
	_, member := start(t, environ, "consumer").addresses()
	eventually(t, func() error {
		families := metrics(t, gateway)
		maps.Copy(families, metrics(t, member))
		registered := slices.DeleteFunc(slices.Sorted(maps.Keys(families)), func(name string) bool {
			return !strings.HasPrefix(name, "mailtally_") || strings.HasPrefix(name, "mailtally_kafka_")
		})
		// The lag has no series before the member has its partitions.
		return same("metrics", documented, strings.Join(registered, "\n"))
	})
}

// Each documented line is logged somewhere, and each documented key exists.
func TestDocs_Logs(t *testing.T) {
	t.Parallel()
	var logged []string
	for _, dir := range []string{".", root + "consumer", root + "producer", root + "tracking"} {
		for _, source := range sources(t, dir) {
			for _, call := range regexp.MustCompile(`\.(?:Info|Warn|Error)\(\s*"([^"]+)"`).FindAllStringSubmatch(source, -1) {
				logged = append(logged, call[1])
			}
		}
	}
	for _, cells := range table(t, operationsPage, "Logs") {
		for _, message := range names(cells[0]) {
			if !slices.ContainsFunc(logged, func(line string) bool { return strings.HasPrefix(line, message) }) {
				t.Errorf("no line begins %q", message)
			}
		}
		for _, key := range names(cells[1]) {
			if !slices.Contains(logKeys, key) {
				t.Errorf("no line has the key %q", key)
			}
		}
	}
}

// sources are the Go files of a folder, without its tests.
func sources(t *testing.T, dir string) (texts []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(files), err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			texts = append(texts, readText(t, file))
		}
	}
	return texts
}

func TestDocs_Schema(t *testing.T) {
	t.Parallel()
	pool := connect(t, migrated(t)["DATABASE_URL"])
	columns := one[[]string](t, pool, `SELECT array_agg(column_name::text) FROM information_schema.columns
		WHERE table_schema = 'mailtally' AND table_name = 'email_history'`)
	sameNames(t, "columns of email_history", first(table(t, operationsPage, "Schema")), columns)
}

func TestDocs_Reasons(t *testing.T) {
	t.Parallel()
	var reasons []string
	for _, reason := range tracking.Reasons() {
		reasons = append(reasons, string(reason))
	}
	sameNames(t, "reasons", first(table(t, operationsPage, "Dead letters")), reasons)
}

// Providers' types are counted as the table says, and the table has all that are
// counted.
func TestDocs_Types(t *testing.T) {
	t.Parallel()
	documented := []map[string]string{{}, {}} // by provider and the provider's name of it
	var types []string
	for _, cells := range table(t, providersPage, "Types") {
		counted := strings.Trim(cells[0], "`")
		if counted != "ignored" {
			types = append(types, counted)
		}
		for i := range documented {
			for _, name := range names(cells[i+1]) {
				documented[i][name] = counted
			}
		}
	}
	slices.Sort(types)
	var all []string
	for _, typ := range tracking.Types() {
		all = append(all, typ.String())
	}
	sameNames(t, "types", types, all)

	for i, p := range []provider.Provider{resend.Provider{}, postmark.Provider{}} {
		for name, want := range documented[i] {
			if got := countedAs(t, p, name); got != want {
				t.Errorf("%s's %s is %s, and documented as %s", p.Name(), name, got, want)
			}
		}
		// Every type named in a provider's folder is in the table.
		for _, source := range sources(t, root+"tracking/provider/"+p.Name()) {
			for _, word := range regexp.MustCompile(`"([A-Za-z_.]+)"`).FindAllStringSubmatch(source, -1) {
				for _, name := range []string{word[1], "Bounce/" + word[1]} {
					if got := countedAs(t, p, name); got != "ignored" && documented[i][name] == "" {
						t.Errorf("%s's %s is %s, and not documented", p.Name(), name, got)
					}
				}
			}
		}
	}
}

// countedAs is the type as which an event of that name is counted.
func countedAs(t *testing.T, p provider.Provider, name string) string {
	t.Helper()
	const email, at = "56761188-7520-42d8-8898-ff6fc54ce618", "2026-11-25T20:00:00Z"
	recordType, bounceType, _ := strings.Cut(name, "/")
	record := tracking.Record{EventID: "1", Value: fmt.Appendf(nil,
		`{"type":%q,"created_at":%q,"data":{"email_id":%q},"RecordType":%q,"Type":%q,"MessageID":%q,"ReceivedAt":%q}`,
		name, at, email, recordType, bounceType, email, at)}
	event, err := p.Decode(&record, time.Date(2026, 11, 25, 21, 0, 0, 0, time.UTC))
	var drop *tracking.DropError
	switch {
	case err == nil:
		return event.Type.String()
	case errors.As(err, &drop) && drop.Reason == tracking.Untracked:
		return "ignored"
	}
	t.Fatalf("%s's %s: %v", p.Name(), name, err)
	return ""
}

// The guarantees are those that tests are named after.
func TestDocs_Guarantees(t *testing.T) {
	t.Parallel()
	var promised, tested []string
	for _, g := range regexp.MustCompile(`(?m)^- \*\*(I\d), `).FindAllStringSubmatch(readText(t, readmePage), -1) {
		promised = append(promised, g[1])
	}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			for _, name := range regexp.MustCompile(`(?m)^func Test\w*I\d_\w*`).FindAllString(readText(t, path), -1) {
				for _, g := range regexp.MustCompile(`(I\d)_`).FindAllStringSubmatch(name, -1) {
					tested = append(tested, g[1])
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(tested)
	sameNames(t, "guarantees", promised, slices.Compact(tested))
}

func TestDocs_Commands(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "help")
	p.wait()
	var commands []string
	for _, c := range regexp.MustCompile(`(?m)^    (mailtally [a-z]+) `).FindAllStringSubmatch(p.stdout.String(), -1) {
		commands = append(commands, c[1])
	}
	sameNames(t, "commands", first(table(t, readmePage, "Commands")), commands)
}

// Nobody is told to drop a month and to wait for its lock as long as it takes: every
// batch would wait behind that.
func TestDocs_DropsWithTimeout(t *testing.T) {
	t.Parallel()
	drops := 0
	for _, page := range []string{readmePage, operationsPage, root + "deploy/runbook.md", root + "docs/performance.md"} {
		for line := range strings.Lines(readText(t, page)) {
			if strings.Contains(line, "DROP TABLE") {
				drops++
				if !strings.Contains(line, "lock_timeout") {
					t.Errorf("%s: no lock_timeout in %s", page, line)
				}
			}
		}
	}
	if drops == 0 {
		t.Error("nobody is told how to drop a month")
	}
}

// Links to other pages or files are not broken.
func TestDocs_Links(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(root + "docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for _, page := range append(pages, readmePage, root+"deploy/runbook.md") {
		for _, link := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(readText(t, page), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(link[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if anchor != "" && !slices.Contains(anchors(readText(t, target)), anchor) {
				t.Errorf("%s: %s has no heading #%s", page, target, anchor)
			}
		}
	}
	if links == 0 {
		t.Error("no links")
	}
}

// anchors are those that GitHub gives to a page's headings.
func anchors(page string) (list []string) {
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		text := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		list = append(list, strings.ReplaceAll(text, " ", "-"))
	}
	return list
}
