package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mailtally/mailtally/internal/bench/apachekafka"
	"github.com/mailtally/mailtally/internal/bench/child"
)

// process is a mailtally process in one of its roles, being measured.
type process struct {
	*child.Process
	log         string // the path of its output
	addr, admin string // host:port, for webhooks and for metrics
}

// mailtally starts the product's binary in a role, with default settings except for
// env. It ends with stop, or with this process.
func (b *bench) mailtally(ctx context.Context, role string, env ...string) (*process, error) {
	program := filepath.Join(b.dir, "mailtally")
	if _, err := os.Stat(program); err != nil {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./cmd/mailtally")
		// Built in its own module, which has dependencies of its own.
		cmd.Dir, cmd.Env = output("go", "list", "-m", "-f", "{{.Dir}}", "github.com/mailtally/mailtally"), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build mailtally: %w\n%s", err, out)
		}
	}
	addr, err := apachekafka.FreeAddr()
	if err != nil {
		return nil, err
	}
	admin, err := apachekafka.FreeAddr()
	if err != nil {
		return nil, err
	}
	out, err := os.CreateTemp(b.dir, role+"-*.log")
	if err != nil {
		return nil, err
	}
	defer out.Close() // the program has its own
	cmd := exec.Command(program, role)
	// Nothing from this process's environment except what any program needs: other
	// settings, such as GOGC, must not be measured.
	cmd.Env = append(env, "HTTP_ADDR="+addr, "ADMIN_ADDR="+admin, "RESEND_WEBHOOK_SECRETS=whsec_"+base64.StdEncoding.EncodeToString([]byte(webhookKey)),
		"LOG_FORMAT=text", "SHUTDOWN_DELAY=0s", "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"))
	cmd.Stdout, cmd.Stderr = out, out
	p, err := child.Start(cmd)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	return &process{p, out.Name(), addr, admin}, nil
}

// stop asks the process to end, and waits until it has.
func (p *process) stop() {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.Done():
	case <-time.After(30 * time.Second):
		p.Kill()
	}
}

// wait polls 20 times a second until is returns true.
func (p *process) wait(ctx context.Context, what string, is func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !is(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w: %s", what, ctx.Err(), p.tail())
		}
	}
	return nil
}

// ready waits until the process is ready.
func (p *process) ready(ctx context.Context) error {
	return p.wait(ctx, "mailtally is ready", func(ctx context.Context) bool {
		_, err := p.ask(ctx, "/readyz")
		return err == nil
	})
}

// ask asks the process's admin port.
func (p *process) ask(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, response.Status)
	}
	return text, err
}

// metric adds all series of a metric of the process's to total.
func (p *process) metric(ctx context.Context, name string, total *float64) error {
	text, err := p.ask(ctx, "/metrics")
	for _, value := range regexp.MustCompile(`(?m)^`+name+`(?:\{.*\})? (\S+)$`).FindAllSubmatch(text, -1) {
		n, failure := strconv.ParseFloat(string(value[1]), 64)
		*total += n
		err = errors.Join(err, failure)
	}
	return err
}

// tail is the end of the process's output.
func (p *process) tail() string {
	text, _ := os.ReadFile(p.log)
	return string(text[max(0, len(text)-2000):])
}

// cpu is the CPU time, in seconds, used by the process with that pid and by its
// descendants, ended ones included. (Of this process's own children, only ended ones
// count.)
func cpu(pid int) (seconds float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	var ticks [4]float64                                                    // utime, stime, cutime, cstime: proc(5)
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')'):])) // what is before may hold anything
	for i := range ticks {
		if ticks[i], err = strconv.ParseFloat(fields[12+i], 64); err != nil {
			return 0, err
		}
	}
	if pid == os.Getpid() {
		return (ticks[0] + ticks[1]) / userHZ, nil
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pid))
	for _, field := range strings.Fields(string(children)) {
		if child, err := strconv.Atoi(field); err == nil {
			used, _ := cpu(child) // if it has ended since, its parent's next answer has it
			seconds += used
		}
	}
	return seconds + (ticks[0]+ticks[1]+ticks[2]+ticks[3])/userHZ, err
}

const userHZ = 100 // ticks a second, on every Linux that Go runs on

// residentMB is the process's peak resident memory (VmHWM), in MiB.
func (p *process) residentMB() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	var kB float64
	_, err = fmt.Sscanf(after, "%f kB", &kB)
	return kB / 1024, err
}
