package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailtally/mailtally/internal/faults"
	"github.com/mailtally/mailtally/internal/localkafka"
	"github.com/mailtally/mailtally/internal/testpg"
)

// asMain makes the test binary run as the program itself, for tests that need a process
// of its own.
const asMain = "MAILTALLY_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
	}
	os.Exit(testpg.Run(m))
}

// patience bounds the waits for what must happen; it is never waited out.
const patience = 2 * time.Minute

const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// process is a run of the program inside this process.
type process struct {
	t              *testing.T
	stdout, stderr *output
	interrupt      func()
	ended          chan struct{}
	code           int // valid once ended is closed
}

// start runs the program with that environment, and no other, until the test ends or it
// is stopped.
func start(t *testing.T, environ map[string]string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{
		t: t, stdout: newOutput(), stderr: newOutput(),
		interrupt: cancel,
		ended:     make(chan struct{}),
	}
	go func() {
		defer close(p.ended)
		p.code = run(ctx, args, environ, p.stdout, p.stderr)
	}()
	t.Cleanup(func() { p.stop() })
	return p
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("it does not exit; it printed\n%s%s", p.stdout, p.stderr)
	}
	return p.code
}

// stop ends it as Ctrl-C does.
func (p *process) stop() int {
	p.t.Helper()
	p.interrupt()
	return p.wait()
}

// endsWell stops it, and expects success.
func (p *process) endsWell() {
	p.t.Helper()
	if code := p.stop(); code != 0 {
		p.t.Errorf("exit code %d: %s%s", code, p.stdout, p.stderr)
	}
}

// line waits for a matching line of w, one of p's outputs, and returns its submatches.
func (p *process) line(w *output, pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	deadline := time.After(patience)
	for {
		text, more := w.read()
		if match := re.FindStringSubmatch(text); match != nil {
			return match
		}
		select {
		case <-more:
		case <-p.ended:
			if text, _ := w.read(); re.MatchString(text) {
				return re.FindStringSubmatch(text)
			}
			p.t.Fatalf("it exited with code %d before a line like %q; it printed\n%s%s", p.code, pattern, p.stdout, p.stderr)
		case <-deadline:
			p.t.Fatalf("no line like %q; it printed\n%s%s", pattern, p.stdout, p.stderr)
		}
	}
}

// addresses are those that a role logs at its start.
func (p *process) addresses() (http, admin string) {
	p.t.Helper()
	line := p.line(p.stderr, `^{.*"(?:producer|consumer) started".*}$`)[0]
	var started struct {
		HTTP  string `json:"http_addr"`
		Admin string `json:"admin_addr"`
	}
	if err := json.Unmarshal([]byte(line), &started); err != nil {
		p.t.Fatalf("%v: %s", err, line)
	}
	return started.HTTP, started.Admin
}

// output is what a process has written, and can be waited on.
type output struct {
	mu      sync.Mutex
	text    strings.Builder
	written chan struct{} // closed, and replaced, with each write
}

func newOutput() *output { return &output{written: make(chan struct{})} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.written)
	o.written = make(chan struct{})
	return o.text.Write(b)
}

// read returns the complete lines so far, and a channel that is closed when there is
// more.
func (o *output) read() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := o.text.String()
	return text[:strings.LastIndexByte(text, '\n')+1], o.written
}

func (o *output) String() string {
	text, _ := o.read()
	return text
}

// system is an empty broker and an empty database, as the environment of the roles that
// use them.
func system(t *testing.T) map[string]string {
	t.Helper()
	broker, err := localkafka.Start(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	return map[string]string{
		"KAFKA_BROKERS": broker.Addr(), "DATABASE_URL": testpg.New(t, "empty", nil),
		"HTTP_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0", "SHUTDOWN_DELAY": "0s",
		"RESEND_WEBHOOK_SECRETS": testSecret,
	}
}

// behindProxy is a system whose database is reached through a proxy.
func behindProxy(t *testing.T, environ map[string]string) (map[string]string, *faults.Proxy) {
	t.Helper()
	u, err := url.Parse(environ["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	proxy := faults.NewProxy(t, u.Host)
	u.Host = proxy.Addr()
	return with(environ, "DATABASE_URL", u.String()), proxy
}

// migrated is a system with schema and topics.
func migrated(t *testing.T) map[string]string {
	t.Helper()
	environ := system(t)
	if p := start(t, environ, "migrate"); p.wait() != 0 {
		t.Fatalf("migrate: %s", p.stderr)
	}
	return environ
}

// with is environ with some variables changed.
func with(environ map[string]string, pairs ...string) map[string]string {
	changed := maps.Clone(environ)
	if changed == nil {
		changed = make(map[string]string)
	}
	for i := 0; i < len(pairs); i += 2 {
		changed[pairs[i]] = pairs[i+1]
	}
	return changed
}

// eventually polls until look returns nil. It is for state that gives no signal, such
// as another process's.
func eventually(t *testing.T, look func() error) {
	t.Helper()
	deadline := time.After(patience)
	again := time.NewTicker(25 * time.Millisecond)
	defer again.Stop()
	for {
		err := look()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}

// same is an error where got is not want.
func same[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}
