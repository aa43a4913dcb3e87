package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// duration matches the durations in a rules file that say how time passes: windows,
// offsets, intervals, and how long a condition has to last. Those in a condition, such
// as a bucket's bound, are plain numbers and stay.
var duration = regexp.MustCompile(`(\[|offset |interval: |for: )(\d+)([smhd])`)

// scaled gives a copy of a rules file in which time passes faster by that factor: each
// duration is divided by it, so that what fires after minutes fires after seconds.
// Nothing else changes.
func scaled(t *testing.T, file string, times int) string {
	t.Helper()
	return rewritten(t, file, func(text string) string {
		return duration.ReplaceAllStringFunc(text, func(match string) string {
			parts := duration.FindStringSubmatch(match)
			n, err := strconv.Atoi(parts[2])
			if err != nil {
				t.Fatalf("%s: %s: %v", file, match, err)
			}
			seconds := n * map[string]int{"s": 1, "m": 60, "h": 3600, "d": 86400}[parts[3]]
			return fmt.Sprintf("%s%dms", parts[1], 1000*seconds/times)
		})
	})
}

// rewritten gives a copy of a file, changed by rewrite.
func rewritten(t *testing.T, file string, rewrite func(string) string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := rewrite(string(text))
	if changed == string(text) {
		t.Fatalf("nothing in %s was changed", file)
	}
	copied := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(copied, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return copied
}
