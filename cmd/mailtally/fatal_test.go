package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// With LOG_FORMAT=json, its default, every line on standard error is JSON, also the last
// one of a process that cannot continue. With text it is text, and where LOG_FORMAT itself
// cannot be read.
func TestFatalErrors_Format(t *testing.T) {
	t.Parallel()
	free := map[string]string{"HTTP_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0"}
	for _, test := range []struct {
		name    string
		environ map[string]string
		args    []string
		json    bool
		code    int
		want    string
	}{
		{"configuration", nil, []string{"consumer"}, true, exitUsage, "DATABASE_URL: is not set"},
		{"configuration, a misspelt variable", map[string]string{"KAFKA_BROKER": "x"}, []string{"producer"}, true, exitUsage, "KAFKA_BROKER: the nearest known is KAFKA_BROKERS"},
		{"configuration, json", map[string]string{"LOG_FORMAT": "json", "KAFKA_BROKERS": "x:y"}, []string{"migrate"}, true, exitUsage, "KAFKA_BROKERS: "},
		{"configuration, text", map[string]string{"LOG_FORMAT": "text"}, []string{"consumer"}, false, exitUsage, "\n    DATABASE_URL: is not set"},
		{"the format itself", map[string]string{"LOG_FORMAT": "xml"}, []string{"consumer"}, false, exitUsage, "\n    LOG_FORMAT: "},
		{"a port", with(complete, "ADMIN_ADDR", "127.0.0.1:99999"), []string{"consumer"}, true, exitFailure, "ADMIN_ADDR"},
		{"a port, text", with(complete, "ADMIN_ADDR", "127.0.0.1:99999", "LOG_FORMAT", "text"), []string{"consumer"}, false, exitFailure, "ADMIN_ADDR"},
		{"a flag", with(complete), []string{"consumer", "-x"}, true, exitUsage, "-x"},
		{"dev", with(free, "LOG_LEVEL", "loud"), []string{"dev"}, false, exitUsage, "\n    LOG_LEVEL: "},
		{"dev, json", with(free, "LOG_LEVEL", "loud", "LOG_FORMAT", "json"), []string{"dev"}, true, exitUsage, "LOG_LEVEL: "},
		{"healthcheck, which has no log", map[string]string{"ADMIN_ADDR": "127.0.0.1:1"}, []string{"healthcheck"}, false, exitFailure, "refused"},
	} {
		p := start(t, test.environ, test.args...)
		code := p.wait()
		text := p.stderr.String()
		if code != test.code || strings.HasPrefix(text, "{") != test.json {
			t.Errorf("%s: exit code %d: %s", test.name, code, text)
			continue
		}
		if test.json {
			lines := p.stderr.lines()
			last := lines[len(lines)-1]
			if last["level"] != "ERROR" || last["component"] != test.args[0] || last["time"] == nil {
				t.Errorf("%s: %v", test.name, last)
			}
			text = fmt.Sprint(last["error"])
		}
		if !strings.Contains(text, test.want) {
			t.Errorf("%s: %s, want %q in it", test.name, text, test.want)
		}
	}
}

// What is held back of a flood is written before a role says that it has stopped.
func TestStoppedComesLast(t *testing.T) {
	t.Parallel()
	p := start(t, migrated(t), "producer")
	public, _ := p.addresses()
	for range 3 * logBurst {
		if status, _ := request(t, http.MethodPost, "http://"+public+"/webhooks/resend", http.Header{}, []byte("{}")); status != http.StatusUnauthorized {
			t.Fatalf("status %d", status)
		}
	}
	p.endsWell()
	lines := p.stderr.lines()
	if stood(said(lines, "webhook refused", "unauthorized")) < 3*logBurst {
		t.Errorf("not all refused webhooks are logged: %s", p.stderr)
	}
	if last := lines[len(lines)-1]; last["msg"] != "producer stopped" {
		t.Errorf("the last line is %v", last)
	}
}
