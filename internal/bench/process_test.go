package main

import (
	"slices"
	"strings"
	"testing"
)

// What is set here for this program is not to be measured.
func TestProcessHasAnEnvironmentOfItsOwn(t *testing.T) {
	t.Setenv("GOGC", "off")
	t.Setenv("HOME", "/home/me")
	b := &bench{dir: t.TempDir()}
	p, err := b.start("env", []string{"GIVEN=1"}, "env")
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	var names []string
	for line := range strings.Lines(readFile(p.log)) {
		name, _, _ := strings.Cut(line, "=")
		names = append(names, name)
	}
	for name, want := range map[string]bool{"GIVEN": true, "HOME": true, "PATH": true, "GOGC": false} {
		if slices.Contains(names, name) != want {
			t.Errorf("the environment %q has %s, should be %v", names, name, want)
		}
	}
}
