package apachekafka

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// deadline bounds what a test waits for, including a first download.
const deadline = 9 * time.Minute

// A record comes back, and a kill leaves nothing outside of the broker's folder.
func TestBroker(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	b, err := Start(ctx, filepath.Join(t.TempDir(), "made"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Kill()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ConsumeTopics("events"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, 1, -1, nil, "events"); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: "events", Value: []byte("one")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	fetches := client.PollFetches(ctx)
	if err := fetches.Err(); err != nil || string(fetches.Records()[0].Value) != "one" {
		t.Fatalf("came back: %v (%v)", fetches.Records(), err)
	}

	b.Kill()
	if err := syscall.Kill(b.Pid(), 0); err != syscall.ESRCH {
		t.Errorf("process %d is still there: %v", b.Pid(), err)
	}
	if conn, err := net.Dial("tcp", b.Addr()); err == nil {
		conn.Close()
		t.Errorf("somebody still listens on %s", b.Addr())
	}
	for _, pattern := range []string{filepath.Join(tmp, "*"), fmt.Sprintf("/tmp/hsperfdata_*/%d", b.Pid())} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q (%v)", left, err)
		}
	}
}

// If the broker exits at once, the error has its output.
func TestBrokerThatEndsAtOnce(t *testing.T) {
	home := t.TempDir()
	writeProgram(t, filepath.Join(home, "bin", "java"), `case "$*" in *StorageTool*) ;; *) echo no such flag; exit 3 ;; esac`)
	t.Setenv("JAVA_HOME", home)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir()) // where the cache is on macOS
	bin := t.TempDir()
	writeProgram(t, filepath.Join(bin, "mvn"), "")
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	_, err := Start(t.Context(), t.TempDir(), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "exit status 3\nno such flag") {
		t.Errorf("error %v, want the broker's last words", err)
	}
}

// If Maven fails, nothing is left that looks like jars.
func TestFailedFetch(t *testing.T) {
	bin, home := t.TempDir(), filepath.Join(t.TempDir(), "jars")
	writeProgram(t, filepath.Join(bin, "mvn"), "echo no such jar; exit 3")
	t.Setenv("PATH", bin)
	err := fetch(t.Context(), home, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "no such jar") {
		t.Errorf("error %v, want Maven's words", err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(home), "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q (%v)", left, err)
	}
}

func writeProgram(t *testing.T, path, script string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}
