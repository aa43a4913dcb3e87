package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mailtally/mailtally/internal/bench/child"
)

// mailtally builds the product's binary, as make build does, and gives its path.
func (b *bench) mailtally(ctx context.Context) (string, error) {
	path := filepath.Join(b.dir, "mailtally")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// In its own module, whose dependencies are not all this one's.
	module, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/mailtally/mailtally").Output()
	if err != nil {
		return "", fmt.Errorf("find the module mailtally: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "./cmd/mailtally")
	cmd.Dir = strings.TrimSpace(string(module))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build mailtally: %w\n%s", err, out)
	}
	return path, nil
}

// process is a program that is being measured.
type process struct {
	*child.Process
	cmd  *exec.Cmd
	name string
	log  string // path of its output
	done <-chan struct{}
}

// start runs a program, its output in a file. It ends with stop or kill, and
// with this process. Of this process's environment it has what any program
// needs: what else is set here, GOGC say, is not to be measured.
func (b *bench) start(name string, env []string, program string, args ...string) (*process, error) {
	out, err := os.CreateTemp(b.dir, name+"-*.log")
	if err != nil {
		return nil, err
	}
	defer out.Close() // the program has its own
	cmd := exec.Command(program, args...)
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = out, out
	p, err := child.Start(cmd)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return &process{p, cmd, name, out.Name(), p.Done()}, nil
}

// stop asks the process to end, and waits until it has.
func (p *process) stop() {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.kill()
	}
}

func (p *process) kill() { p.Kill() }

// ready waits until url answers 200.
func (p *process) ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("%s ended: %s", p.name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", p.name, ctx.Err(), p.tail())
		}
	}
}

// tail is the end of what the process said.
func (p *process) tail() string {
	text := readFile(p.log)
	return text[max(0, len(text)-2000):]
}

// cpu is the CPU time that the process with that pid and its descendants, ended
// ones included, have used. Linux only.
func cpu(pid int) (time.Duration, error) {
	children := make(map[int][]int)
	times := make(map[int]time.Duration)
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, path := range stats {
		text := readFile(path)
		end := strings.LastIndexByte(text, ')') // the name may hold anything
		if end < 0 {
			continue // ended meanwhile
		}
		id, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		fields := strings.Fields(text[end+1:]) // from the third on: state, ppid, …
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			return 0, err
		}
		children[parent] = append(children[parent], id)
		for _, field := range fields[11:15] { // utime, stime, cutime, cstime: proc(5)
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, err
			}
			times[id] += time.Duration(ticks) * (time.Second / 100) // USER_HZ
		}
	}
	if _, ok := times[pid]; !ok {
		return 0, fmt.Errorf("no process %d", pid)
	}
	var sum func(int) time.Duration
	sum = func(pid int) time.Duration {
		total := times[pid]
		for _, child := range children[pid] {
			total += sum(child)
		}
		return total
	}
	return sum(pid), nil
}

// residentMB is the most memory that the process had resident so far. Linux only.
func residentMB(pid int) (float64, error) {
	for line := range strings.Lines(readFile(fmt.Sprintf("/proc/%d/status", pid))) {
		var kB float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kB); err == nil {
			return kB / 1024, nil
		}
	}
	return 0, errors.New("/proc does not say")
}

// freeAddr is an address on loopback that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
