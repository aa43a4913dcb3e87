package main

import (
	"fmt"
	"strings"
	"testing"
)

// healthcheck exits with 0 while all of a role's checks pass, and otherwise with 1 and
// the ones that fail.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	environ, database := behindProxy(t, migrated(t))
	member := start(t, environ, "consumer")
	_, admin := member.addresses()
	_, port, _ := strings.Cut(admin, ":")

	want := func(when, addr string, code int, printed string) {
		t.Helper()
		eventually(t, func() error {
			p := start(t, with(environ, "ADMIN_ADDR", addr), "healthcheck")
			if got := p.wait(); got != code || !strings.Contains(p.stdout.String()+p.stderr.String(), printed) {
				return fmt.Errorf("%s: exit code %d, want %d; it printed %q%q, want %q", when, got, code, p.stdout, p.stderr, printed)
			}
			return nil
		})
	}
	want("ready", admin, 0, "kafka: ok\ndatabase: ok\n")
	want("asked on all addresses", ":"+port, 0, "kafka: ok\ndatabase: ok\n")
	database.Away(true)
	want("without the database", admin, exitFailure, "503 Service Unavailable: kafka: ok\ndatabase: ")
	database.Away(false)
	want("with the database again", admin, 0, "kafka: ok\ndatabase: ok\n")
	member.stop()
	want("stopped", admin, exitFailure, "connection refused")
}
