package main

import (
	"bufio"
	"os/exec"
	"testing"
	"time"
)

// PostgreSQL's work is done by the postmaster's children, of which some have
// ended when the time is asked for.
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
		used, err := cpu(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if used < 50*time.Millisecond {
			t.Errorf("CPU time when the child has %s: %s, want what it used", want, used)
		}
		if _, err := stdin.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCPUOfNoProcess(t *testing.T) {
	if _, err := cpu(0); err == nil {
		t.Error("no error")
	}
}
