package deploy

import (
	"bufio"
	"errors"
	"strings"
	"testing"
)

// dev is a running `mailtally dev`.
type dev struct {
	*process
	environ map[string]string // what it prints for other terminals to join
}

// startDev runs the whole system with simulated traffic, on ports that it chooses, and
// returns once it serves. environ and flags are added to its own.
func startDev(t *testing.T, environ []string, flags ...string) *dev {
	t.Helper()
	environ = append([]string{"HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"}, environ...)
	d := &dev{process: start(t, environ, mailtally, append([]string{"dev"}, flags...)...)}
	await(t, "mailtally dev starts", func() error {
		d.mustRun(t)
		d.environ = make(map[string]string)
		lines := bufio.NewScanner(strings.NewReader(d.printed()))
		for lines.Scan() {
			if name, value, ok := strings.Cut(lines.Text(), "="); ok && !strings.Contains(name, " ") {
				d.environ[name] = value
			}
		}
		if d.admin() == "" || d.environ["RESEND_WEBHOOK_SECRETS"] == "" {
			return errors.New("its addresses are not printed yet")
		}
		_, err := get(t.Context(), "http://"+d.admin()+"/readyz")
		return err
	})
	return d
}

// admin is the address of its /metrics.
func (d *dev) admin() string { return d.environ["ADMIN_ADDR"] }
