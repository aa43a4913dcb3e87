package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The first failure of a kind is said, once and with what to do, and the command fails.
func TestSimulate_SaysWhyItFails(t *testing.T) {
	t.Parallel()
	environ := map[string]string{"RESEND_WEBHOOK_SECRETS": testSecret, "LOG_FORMAT": "text"}
	for status, want := range map[int]string{
		http.StatusOK:           "does this URL belong to a producer?",
		http.StatusUnauthorized: "is RESEND_WEBHOOK_SECRETS the producer's",
		http.StatusNotFound:     "with the path /webhooks/resend?",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "so there", status) }))
		t.Cleanup(server.Close)
		p := start(t, environ, "simulate", "-url", server.URL, "-rate", "0", "-total", "500")
		code, text := p.wait(), p.stderr.String()
		if code != 1 || strings.Count(text, want) != 1 || !strings.Contains(text, " unexpected answers, 0 webhooks never answered\n") {
			t.Errorf("all answered %d: exit code %d, %s", status, code, text)
		}
		if status != http.StatusOK && !strings.Contains(text, ": so there\"") {
			t.Errorf("all answered %d, but the answer's text is missing: %s", status, text)
		}
	}

	unused := httptest.NewServer(nil)
	unused.Close()
	p := start(t, environ, "simulate", "-url", unused.URL, "-rate", "500")
	p.line(p.stderr, "is a producer running, and is this its URL.*connection refused")
	p.line(p.stdout, "not answered [1-9][0-9]+ ")
	code, text := p.stop(), p.stderr.String()
	if code != 1 || strings.Count(text, "connection refused") != 1 || !strings.Contains(text, ": 0 unexpected answers, ") {
		t.Errorf("no producer: exit code %d, %s", code, text)
	}
}
