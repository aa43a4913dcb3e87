package main

import (
	"cmp"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args           []string
		code           int
		stdout, stderr string // what they must hold; nothing at all where empty
	}{
		{nil, 2, "", "mailtally dev "},
		{[]string{"help"}, 0, "mailtally dev ", ""},
		{[]string{"-h"}, 0, "mailtally dev ", ""},
		{[]string{"destroy"}, 2, "", `no command "destroy"`},
		{[]string{"dev", "-h"}, 0, "-data", ""},
		{[]string{"dev", "-speed", "7"}, 2, "", "-speed"},
		{[]string{"dev", "-rate", "-1"}, 2, "", "-rate -1: want 0 or more"},
		{[]string{"dev", "-rate", "NaN"}, 2, "", "-rate NaN: want 0 or more"},
		{[]string{"dev", "-rate", "much"}, 2, "", `"much" for flag -rate`},
		{[]string{"dev", "folder"}, 2, "", "takes no arguments"},
		{[]string{"producer", "-v"}, 2, "", `not defined: -v`},
		{[]string{"consumer", "-v"}, 2, "", `not defined: -v`},
		{[]string{"migrate", "down"}, 2, "", "takes no arguments"},
		{[]string{"healthcheck", "now"}, 2, "", "takes no arguments"},
		{[]string{"simulate", "-h"}, 0, "-total", ""},
		{[]string{"version"}, 0, runtime.Version(), ""},
		{[]string{"version", "now"}, 2, "", "takes no arguments"},
		{[]string{"--version"}, 0, runtime.Version(), ""},
		{[]string{"-v"}, 0, runtime.Version(), ""},
		{[]string{"help", "dev"}, 0, "-data", ""},
		{[]string{"--help", "version"}, 0, "mailtally version: ", ""},
		{[]string{"help", "destroy"}, 2, "", `no command "destroy"`},
		{[]string{"simulate", "-url", "nowhere"}, 2, "", "want http://host/path"},
		{[]string{"simulate", "-url", "127.0.0.1:8080"}, 2, "", `URL "127.0.0.1:8080": want http://host/path`},
		{[]string{"simulate", "-rate", "-1"}, 2, "", "-rate -1: want 0 or more"},
		{[]string{"simulate", "-rate", "NaN"}, 2, "", "-rate NaN: want 0 or more"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			t.Parallel()
			p := start(t, map[string]string{"RESEND_WEBHOOK_SECRETS": testSecret, "LOG_FORMAT": "text"}, test.args...)
			if code := p.wait(); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			for _, o := range []struct {
				name, text, want string
			}{{"stdout", p.stdout.String(), test.stdout}, {"stderr", p.stderr.String(), test.stderr}} {
				if !strings.Contains(o.text, o.want) || o.want == "" && o.text != "" {
					t.Errorf("%s is %q, want %q in it", o.name, o.text, o.want)
				}
			}
		})
	}
}

// Each command's help lists its flags and the variables that it reads, with defaults,
// and no others.
func TestUsage_Help(t *testing.T) {
	t.Parallel()
	for _, c := range commands() {
		p := start(t, nil, c.name, "--help")
		if code := p.wait(); code != 0 || p.stderr.String() != "" || !strings.HasPrefix(p.stdout.String(), "mailtally "+c.name+": "+c.about+"\n") {
			t.Errorf("%s: exit code %d, %s%s", c.name, code, p.stdout, p.stderr)
		}
		for _, v := range variables() {
			line := regexp.MustCompile("(?m)^  " + v.name + " .*$").FindString(p.stdout.String())
			preset := cmp.Or(c.defaults[v.name], v.preset)
			switch {
			case !v.readBy(c.name):
				if line != "" {
					t.Errorf("%s lists %q, which it does not read", c.name, line)
				}
			case v.help == "" || !strings.Contains(line, "  "+v.help) || preset != "" && !strings.HasSuffix(line, "(default "+preset+")"):
				t.Errorf("%s: %s is said to be %q", c.name, v.name, line)
			}
		}
	}
}

// Variables are read only by commands that exist.
func TestUsage_Readers(t *testing.T) {
	t.Parallel()
	for _, v := range variables() {
		for _, reader := range v.readers {
			if !slices.ContainsFunc(commands(), func(c command) bool { return c.name == reader }) {
				t.Errorf("%s is for %s, which is not a command", v.name, reader)
			}
		}
		if len(v.readers) == 0 {
			t.Errorf("no command reads %s", v.name)
		}
	}
}

// Missing required configuration is a usage error: it is reported at once, and retrying
// does not help.
func TestUsage_MissingConfiguration(t *testing.T) {
	t.Parallel()
	for command, variable := range map[string]string{
		"producer": "RESEND_WEBHOOK_SECRETS", "consumer": "DATABASE_URL", "migrate": "DATABASE_URL", "simulate": "RESEND_WEBHOOK_SECRETS",
	} {
		p := start(t, nil, command)
		if code := p.wait(); code != exitUsage || !strings.Contains(p.stderr.String(), variable+": is not set") {
			t.Errorf("%s: exit code %d, %q", command, code, p.stderr)
		}
	}
}
