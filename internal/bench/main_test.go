package main

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	for list, want := range map[string]string{
		"":           "[apply growth hot pipe memory far gateway delay]",
		"hot, apply": "[hot apply]",
		"apply,no":   `[] no part "no"`,
	} {
		chosen, err := choose(list)
		got := []string{}
		for _, p := range chosen {
			got = append(got, p.name)
		}
		text := fmt.Sprint(got)
		if err != nil {
			text += " " + err.Error()
		}
		if text != want {
			t.Errorf("%q: %s, want %s", list, text, want)
		}
	}
}

func TestRunRefusesArguments(t *testing.T) {
	for args, want := range map[string]string{
		"-rounds -1":        "-rounds",
		"-parts no":         `no part "no"`,
		"-no":               "flag provided but not defined",
		"-dir /no/such/dir": "/no/such/dir",
	} {
		var stderr strings.Builder
		if code := run(t.Context(), strings.Fields(args), io.Discard, &stderr); code == 0 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit %d and %q, want %q", args, code, stderr.String(), want)
		}
	}
}

// Each row is measured once per round, and each is first in turn.
func TestInterleave(t *testing.T) {
	b := &bench{rounds: 3, log: slog.New(slog.DiscardHandler)}
	var order []int
	if err := b.interleave(make([]row, 3), func(i int) error { order = append(order, i); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []int{0, 1, 2, 1, 2, 0, 2, 0, 1}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}
