package main

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
)

// PostgreSQL's work is done by the postmaster's children, some of which have ended when
// the time is read.
func TestCPUOfDescendants(t *testing.T) {
	// The shell in brackets works; the one around it only waits for it.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `
		(i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; echo worked; read x)
		echo ended; read x`)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	lines := bufio.NewScanner(stdout)
	for _, want := range []string{"worked", "ended"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("the shell said %q, want %q", lines.Text(), want)
		}
		// 400,000 turns of a shell's loop take far more than that anywhere.
		if used, err := cpu(cmd.Process.Pid); err != nil || used < .03 {
			t.Errorf("CPU time when the child has %s: %g s (%v), want what it used", want, used, err)
		}
		if _, err := stdin.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := cpu(0); err == nil {
		t.Error("no process is no error")
	}
}

func TestMetricAddsUpItsSeries(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("# HELP events_total all\nevents_total{type=\"a b\"} 3\nevents_total{type=\"c\"} 1e+06\nevents_total_more 7\nplain 2\n"))
	}))
	defer server.Close()
	p := &process{admin: strings.TrimPrefix(server.URL, "http://")}
	for name, want := range map[string]float64{"events_total": 1_000_003, "plain": 2, "none": 0} {
		var got float64
		if err := p.metric(t.Context(), name, &got); err != nil || got != want {
			t.Errorf("%s is %g (%v), want %g", name, got, err, want)
		}
	}
}
