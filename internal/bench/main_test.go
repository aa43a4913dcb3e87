package main

import (
	"io"
	"strings"
	"testing"
)

func names(parts []part) string {
	var list []string
	for _, p := range parts {
		list = append(list, p.name)
	}
	return strings.Join(list, " ")
}

func TestChoose(t *testing.T) {
	const all = "apply growth hot pipe far peers gateway delay"
	for _, c := range []struct{ list, system, chosen, left, err string }{
		{"", "linux", all, "", ""},
		{"", "darwin", "apply growth hot", "pipe far peers gateway delay", ""},
		{"settings", "darwin", "settings", "", ""},
		{"hot, apply", "darwin", "hot apply", "", ""},
		{"delay", "linux", "delay", "", ""},
		{"apply,delay", "darwin", "", "", "the part delay works on Linux only, and this is darwin"},
		{"apply,no", "linux", "", "", `no part "no": see -help`},
	} {
		chosen, left, err := choose(c.list, false, c.system)
		if got := names(chosen); got != c.chosen {
			t.Errorf("%q on %s: parts %q, want %q", c.list, c.system, got, c.chosen)
		}
		if got := names(left); got != c.left {
			t.Errorf("%q on %s: left out %q, want %q", c.list, c.system, got, c.left)
		}
		if (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%q on %s: error %v, want %q", c.list, c.system, err, c.err)
		}
	}
	if chosen, _, err := choose("", true, "linux"); err != nil || names(chosen) != all+" settings" {
		t.Errorf("at full length: parts %q, %v, want also settings", names(chosen), err)
	}
}

func TestRunRefusesArguments(t *testing.T) {
	for args, want := range map[string]string{
		"-rounds -1": "-rounds is -1",
		"-parts no":  `no part "no"`,
		"-no":        "flag provided but not defined",
	} {
		var stderr strings.Builder
		// Should it not be refused, it must not begin either.
		if code := run(t.Context(), append(strings.Fields(args), "-dir", "/no/such/folder"), io.Discard, &stderr); code != 2 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit %d and %q, want 2 and %q", args, code, stderr.String(), want)
		}
	}
}
