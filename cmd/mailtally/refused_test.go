package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mailtally/mailtally/internal/localkafka"
)

// The error names the port that is taken, and the variable that sets it.
func TestPortsInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	for _, test := range []struct{ command, variable string }{
		{"producer", "HTTP_ADDR"}, {"producer", "ADMIN_ADDR"}, {"consumer", "ADMIN_ADDR"}, {"dev", "HTTP_ADDR"}, {"dev", "ADMIN_ADDR"},
	} {
		environ := with(complete, "HTTP_ADDR", "127.0.0.1:0", "ADMIN_ADDR", "127.0.0.1:0", test.variable, addr)
		p := start(t, environ, test.command)
		if code := p.wait(); code != exitFailure || !strings.Contains(p.stderr.String(), test.variable+": "+addr+" is in use: stop what listens there, or choose another port") {
			t.Errorf("%s: exit code %d, %s", test.command, code, p.stderr)
		}
	}
}

// Configured parts are used, and no others started. What another terminal needs to reach
// them is printed.
func TestDev_ConfiguredParts(t *testing.T) {
	t.Parallel()
	broker, err := localkafka.Start(t.TempDir(), nil, localkafka.Password("someone", "secret")...)
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	environ := with(system(t), "KAFKA_BROKERS", broker.Addr(), "KAFKA_TOPIC", "events", "KAFKA_DEAD_LETTER_TOPIC", "events.dead", "KAFKA_GROUP", "ours",
		"KAFKA_SASL_MECHANISM", "SCRAM-SHA-256", "KAFKA_SASL_USERNAME", "someone", "KAFKA_SASL_PASSWORD", "secret")
	p := start(t, environ, "dev", "-rate", "100")
	printed := joinIn(p)
	for name := range environ {
		if name == "HTTP_ADDR" || name == "ADMIN_ADDR" || name == "SHUTDOWN_DELAY" { // dev's own
			continue
		}
		if printed[name] != environ[name] {
			t.Errorf("%s is %s, want %s", name, printed[name], environ[name])
		}
	}
	pool := connect(t, environ["DATABASE_URL"])
	eventually(t, func() error {
		if one[int](t, pool, "SELECT count(*) FROM mailtally.email_event") == 0 || records(t, environ["KAFKA_BROKERS"], "events", devPassword(environ)) == 0 {
			return fmt.Errorf("nothing reaches the configured parts")
		}
		return nil
	})
	p.endsWell()
	one[int](t, pool, "SELECT 1") // dev must not stop it
}

// The environment for another terminal holds what is not the default, and a password's
// file instead of the password.
func TestDev_Joining(t *testing.T) {
	t.Parallel()
	names := func(c config) (list []string) {
		for _, line := range joining(c) {
			list = append(list, line[0])
		}
		return list
	}
	c, err := loadConfig(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	always := []string{"KAFKA_BROKERS", "DATABASE_URL", "HTTP_ADDR", "ADMIN_ADDR", "RESEND_WEBHOOK_SECRETS"}
	if got := names(c); !slices.Equal(got, always) {
		t.Errorf("by default: %v", got)
	}
	c.KafkaTLS, c.KafkaTLSCAFile, c.KafkaSASLPassword, c.KafkaSASLPasswordFile = true, "ca.pem", "secret", "password"
	want := slices.Insert(always, 1, "KAFKA_TLS", "KAFKA_TLS_CA_FILE", "KAFKA_SASL_PASSWORD_FILE")
	if got := names(c); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Each error says what to do about it.
func TestDev_Refused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		environ map[string]string
		flags   []string
		code    int
		want    string
	}{
		{"nobody at DATABASE_URL", map[string]string{"DATABASE_URL": "postgres://user:s3cr3t@127.0.0.1:1/db"}, nil, exitFailure, "check DATABASE_URL, and that PostgreSQL runs there"},
		{"nobody at KAFKA_BROKERS", with(system(t), "KAFKA_BROKERS", "127.0.0.1:1"), nil, exitFailure, "on 127.0.0.1:1: "},
		{"a file as folder", nil, []string{"-data", file}, exitFailure, "choose a -data folder that you can write to"},
		{"no PostgreSQL there", nil, []string{"-postgres-bin", t.TempDir()}, exitFailure, "use PostgreSQL of "},
		{"TLS with the embedded Kafka", map[string]string{"KAFKA_TLS": "true"}, nil, exitUsage, "the embedded Kafka has no TLS"},
		{"an address without a port", map[string]string{"HTTP_ADDR": "8080"}, nil, exitUsage, `HTTP_ADDR: want host:port`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			environ := with(freePorts)
			for name, value := range test.environ {
				environ[name] = value
			}
			p := start(t, environ, append([]string{"dev"}, test.flags...)...)
			if code := p.wait(); code != test.code || !strings.Contains(p.stderr.String(), test.want) || strings.Contains(p.stderr.String(), "s3cr3t") {
				t.Errorf("exit code %d, want %d with %q: %s", code, test.code, test.want, p.stderr)
			}
		})
	}
}

// A part that dies stops the others, and the error names it.
func TestDev_PostgresDies(t *testing.T) {
	t.Parallel()
	p := start(t, freePorts, "dev", "-rate", "100")
	environ := joinIn(p)
	pool := connect(t, environ["DATABASE_URL"])
	folder := filepath.Dir(filepath.Dir(one[string](t, pool, "SHOW data_directory")))
	text, err := os.ReadFile(filepath.Join(folder, "postgres", "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Split(string(text), "\n")[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != exitFailure || !strings.Contains(p.stderr.String(), "the local PostgreSQL ended: ") {
		t.Errorf("exit code %d: %s", code, p.stderr)
	}
	pool.Close()
	if err := gone(environ, folder); err != nil {
		t.Error(err)
	}
}
