package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// spawn runs the program in a process of its own.
func spawn(t *testing.T, environ map[string]string, args ...string) (*process, *os.Process) {
	t.Helper()
	return spawnUnder(t, nil, environ, args...)
}

// spawnUnder has another program start it: wrapper is that and its first arguments.
func spawnUnder(t *testing.T, wrapper []string, environ map[string]string, args ...string) (*process, *os.Process) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, stdout: newOutput(), stderr: newOutput(), ended: make(chan struct{})}
	command := slices.Concat(wrapper, []string{program}, args)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = []string{asMain + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir()}
	for name, value := range environ {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.interrupt = func() { cmd.Process.Signal(syscall.SIGTERM) }
	go func() {
		defer close(p.ended)
		err := cmd.Wait()
		if p.code = cmd.ProcessState.ExitCode(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { p.stop() })
	return p, cmd.Process
}

// Ctrl-C, SIGTERM and the end of the terminal end every role, in order and with success.
func TestSignals(t *testing.T) {
	t.Parallel()
	environ := migrated(t)
	type running struct {
		name   string
		p      *process
		os     *os.Process
		signal os.Signal
	}
	var roles []running
	add := func(signal os.Signal, environ map[string]string, args ...string) *process {
		p, os := spawn(t, environ, args...)
		roles = append(roles, running{args[0], p, os, signal})
		return p
	}
	dev := add(syscall.SIGHUP, freePorts, "dev", "-rate", "500")
	consumer := add(syscall.SIGINT, environ, "consumer")
	producer := add(syscall.SIGTERM, environ, "producer")
	public, _ := producer.addresses()
	simulator := add(syscall.SIGTERM, with(environ, "HTTP_ADDR", public), "simulate", "-rate", "500", "-total", "1000000")
	simulator.line(simulator.stdout, "webhooks [1-9]")
	consumer.line(consumer.stderr, `"partitions assigned"`)
	dev.line(dev.stdout, status)
	inDev := joinIn(dev)
	pool := connect(t, inDev["DATABASE_URL"])
	folder := filepath.Dir(filepath.Dir(one[string](t, pool, "SHOW data_directory")))
	pool.Close()
	for i := len(roles) - 1; i >= 0; i-- {
		role := roles[i]
		if err := role.os.Signal(role.signal); err != nil {
			t.Fatal(err)
		}
		if code := role.p.wait(); code != 0 {
			t.Errorf("%s: exit code %d after %v: %s", role.name, code, role.signal, role.p.stderr)
		}
	}
	if err := gone(inDev, folder); err != nil {
		t.Error(err)
	}
}

// Under nohup the end of the terminal ends nothing.
func TestSignals_Nohup(t *testing.T) {
	t.Parallel()
	received := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		select {
		case received <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(server.Close)
	p, process := spawnUnder(t, []string{"sh", "-c", `trap "" HUP; exec "$@"`, "sh"}, map[string]string{"RESEND_WEBHOOK_SECRETS": testSecret},
		"simulate", "-url", server.URL, "-rate", "100", "-faults=false")
	for n := range 100 {
		select {
		case <-received:
		case <-p.ended:
			t.Fatalf("it ended with code %d: %s", p.code, p.stderr)
		}
		if n == 0 {
			if err := process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.endsWell()
}

// A Ctrl-C while PostgreSQL is being initialised is no failure, and leaves nothing
// behind. A kill at that moment, or under load, breaks no later start.
func TestDev_EndsAtAnyMoment(t *testing.T) {
	t.Parallel()
	folder := dataFolder(t)
	initialising := func(p *process) {
		t.Helper()
		eventually(t, func() error {
			begun, err := filepath.Glob(filepath.Join(folder, "postgres", "data.tmp*", "PG_VERSION"))
			if err == nil && len(begun) == 0 {
				err = errors.New("nothing of it yet")
			}
			select {
			case <-p.ended:
				return fmt.Errorf("it ended with code %d: %s", p.code, p.stderr)
			default:
				return err
			}
		})
	}
	p, process := spawn(t, freePorts, "dev", "-data", folder)
	initialising(p)
	if err := process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	// If PostgreSQL had to be downloaded, that was logged.
	if code := p.wait(); code != 0 || p.stdout.String() != "" || strings.Contains(p.stderr.String(), "mailtally dev:") {
		t.Errorf("exit code %d after a Ctrl-C during the start: %s%s", code, p.stdout, p.stderr)
	}

	p, process = spawn(t, freePorts, "dev", "-data", folder)
	initialising(p)
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.wait()

	p, process = spawn(t, freePorts, "dev", "-data", folder, "-rate", "1000")
	secret := joinIn(p)["RESEND_WEBHOOK_SECRETS"]
	p.line(p.stdout, status)
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.wait()

	last := start(t, freePorts, "dev", "-data", folder, "-rate", "0")
	environ := joinIn(last)
	if environ["RESEND_WEBHOOK_SECRETS"] != secret {
		t.Error("the secret has changed")
	}
	eventually(t, func() error {
		return same("lag", lag(t, environ["KAFKA_BROKERS"], "mailtally", devPassword(environ)), 0)
	})
	pool := connect(t, environ["DATABASE_URL"])
	kept := counted(t, pool)
	for event, n := range kept {
		if n != 1 {
			t.Errorf("event %s is in the history %d times", event, n)
		}
	}
	sent := published(t, environ["KAFKA_BROKERS"], "email-events", devPassword(environ))
	for event := range sent {
		if kept[event] == 0 {
			t.Errorf("event %s is in Kafka and not in the history", event)
		}
	}
	if len(sent) == 0 {
		t.Error("nothing was kept")
	}
	pool.Close()
	last.endsWell()
}
