package main

import (
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
		{[]string{"dev", "folder"}, 2, "", `["folder"]`},
		{[]string{"producer", "-v"}, 2, "", `["-v"]`},
		{[]string{"consumer", "-v"}, 2, "", `["-v"]`},
		{[]string{"migrate", "down"}, 2, "", `["down"]`},
		{[]string{"healthcheck", "now"}, 2, "", `["now"]`},
		{[]string{"simulate", "-h"}, 0, "-total", ""},
		{[]string{"simulate", "-url", "nowhere"}, 2, "", "want http://host/path"},
		{[]string{"simulate", "-rate", "-1"}, 2, "", "rate -1"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			t.Parallel()
			p := start(t, map[string]string{"RESEND_WEBHOOK_SECRETS": testSecret}, test.args...)
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

// What a role cannot do without is said at once, and that trying again is of no
// use.
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
