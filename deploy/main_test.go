package deploy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// patience bounds waits for what must happen; it is never waited out.
const patience = time.Minute

// mailtally is the binary under test. It is built with the tests' flags, not as it is
// shipped, so that what they have compiled is reused.
var mailtally string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mailtally-deploy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	mailtally = filepath.Join(dir, "mailtally")
	build := exec.Command("go", "build", "-o", mailtally, "./cmd/mailtally")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v: %v\n%s", build, err, out)
		return 1
	}
	return m.Run()
}

// program finds a program from the Debian package of that name. If it is missing, the
// test fails; none is skipped.
func program(t *testing.T, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("this test needs %s: apt-get install %s (%v)", name, debianPackage, err)
	}
	return path
}

// process is a program that runs until the test ends.
type process struct {
	cmd    *exec.Cmd
	name   string
	output string        // the file it writes to
	ended  chan struct{} // closed when it has ended
}

// start runs a program with that environment, and no other.
func start(t *testing.T, environ []string, path string, args ...string) *process {
	t.Helper()
	name := filepath.Base(path)
	output, err := os.CreateTemp(t.TempDir(), name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	p := &process{cmd: exec.Command(path, args...), name: name, output: output.Name(), ended: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir()}, environ...)
	p.cmd.Stdout, p.cmd.Stderr = output, output
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	go func() {
		defer close(p.ended)
		p.cmd.Wait() // its state says how it ended
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("%s %q printed:\n%s", name, args, p.printed())
		}
	})
	return p
}

// stop stops it as its operator would, and kills it if it does not end.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.cmd.Process.Kill()
		<-p.ended
	}
}

// mustRun ends the test if the process has ended, while somebody waits for it.
func (p *process) mustRun(t *testing.T) {
	t.Helper()
	select {
	case <-p.ended:
		t.Fatalf("%s ended: %v", p.name, p.cmd.ProcessState)
	default:
	}
}

// printed is what it has written so far.
func (p *process) printed() string {
	text, err := os.ReadFile(p.output)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// await retries until try succeeds. It is for state of another process that gives no
// signal.
func await(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, t.Context().Err())
		}
	}
}

// get returns the body of a 200 answer.
func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s: %s", url, resp.Status, body)
	}
	return body, nil
}

// freeAddr is a loopback address that was free a moment ago, for programs that cannot
// choose one and report it.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// readYAML reads a file with a single document.
func readYAML(t *testing.T, file string, content any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, content); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
