package apachekafka

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// deadline bounds what a test waits for, a first download among it.
const deadline = 5 * time.Minute

// helperEnv makes the test binary run a broker, in the folder that it names,
// until it is killed.
const helperEnv = "APACHEKAFKA_TEST_HELPER"

func TestMain(m *testing.M) {
	dir := os.Getenv(helperEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	c, err := Start(context.Background(), Options{Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(c.Pids()[0])
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// quiet discards.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func start(t *testing.T, o Options) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	c, err := Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return c
}

// client makes a topic and gives a client that consumes it.
func client(t *testing.T, c *Cluster, topic string) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, -1, nil, topic); err != nil {
		t.Fatal(err)
	}
	return client
}

// roundTrip produces a record and consumes it.
func roundTrip(t *testing.T, client *kgo.Client, topic, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("%q did not come back: %v", value, err)
		}
		for r := range fetches.RecordsAll() {
			if string(r.Value) == value {
				return
			}
		}
	}
}

// wantGone fails if the process with that pid is still there, or what it
// listened on.
func wantGone(t *testing.T, pid int, addr string) {
	t.Helper()
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("process %d is still there: %v", pid, err)
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Errorf("somebody still listens on %s", addr)
	}
}

// A kill leaves nothing outside of the cluster's folder.
func TestBroker(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	c := start(t, Options{Dir: filepath.Join(t.TempDir(), "made")})
	client := client(t, c, "events")
	roundTrip(t, client, "events", "first")
	c.Kill(0)
	wantGone(t, c.Pids()[0], c.Addrs()[0])
	for _, pattern := range []string{filepath.Join(tmp, "*"), fmt.Sprintf("/tmp/hsperfdata_*/%d", c.Pids()[0])} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q (%v)", left, err)
		}
	}
}

func TestKilledParentLeavesNoBroker(t *testing.T) {
	// The helper and the broker inherit descriptor 4, which is nobody's concern:
	// its end of file says that both are gone.
	alive, inherited, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), helperEnv+"="+t.TempDir())
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{os.Stdin, inherited} // 3 and 4
	stdin, err := cmd.StdinPipe()                    // or the helper would end at once
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	inherited.Close()
	var pid int
	if _, err := fmt.Fscanln(stdout, &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("no broker runs: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := alive.SetReadDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(alive); err != nil {
		t.Errorf("the broker is left: %v", err)
	}
	_ = cmd.Wait() // "signal: killed"
}

// Two of three brokers are enough, as min.insync.replicas says.
func TestThreeBrokersLoseOne(t *testing.T) {
	c := start(t, Options{Dir: t.TempDir(), Brokers: 3})
	client := client(t, c, "events")
	roundTrip(t, client, "events", "first")
	c.Kill(1)
	roundTrip(t, client, "events", "second")

	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		t.Error(err)
	}
	for i, pid := range c.Pids() {
		wantGone(t, pid, c.Addrs()[i])
	}
}

func TestBrokerThatEndsAtOnce(t *testing.T) {
	_, err := Start(t.Context(), Options{Dir: t.TempDir(), Properties: map[string]string{"num.io.threads": "0"}})
	wantError(t, err, "start Apache Kafka "+Version, "num.io.threads")
	_, err = Start(t.Context(), Options{Dir: t.TempDir(), JVM: []string{"-XX:+NoSuchFlag"}})
	wantError(t, err, "broker 1 ended: exit status 1", "the end of", "NoSuchFlag")
}

func TestNoJava(t *testing.T) {
	t.Setenv("JAVA_HOME", t.TempDir())
	_, err := Start(t.Context(), Options{Dir: t.TempDir()})
	wantError(t, err, "find Java", "install a JDK 17 or newer")
}

func TestOldJava(t *testing.T) {
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho '    java.specification.version = 1.8' >&2\n"
	if err := os.WriteFile(filepath.Join(home, "bin", "java"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JAVA_HOME", home)
	_, err := Start(t.Context(), Options{Dir: t.TempDir()})
	wantError(t, err, "is Java 8", "needs 17 or newer")
}

func TestNoMaven(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	home := filepath.Join(t.TempDir(), "jars")
	wantError(t, fetch(t.Context(), home, pom, quiet()), "install Maven")
	if exists(home) {
		t.Error("the folder was made all the same")
	}
}

// Maven that fails leaves nothing that looks like jars.
func TestFailedFetch(t *testing.T) {
	bin, home := t.TempDir(), filepath.Join(t.TempDir(), "jars")
	if err := os.WriteFile(filepath.Join(bin, "mvn"), []byte("#!/bin/sh\necho no such jar; exit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	wantError(t, fetch(t.Context(), home, pom, quiet()), "exit status 3", "no such jar")
	if exists(home) || exists(home+".tmp") {
		t.Error("a folder is left")
	}
}

// Of several at once, one fetches and all have it.
func TestFetchAtOnce(t *testing.T) {
	bin, home := t.TempDir(), filepath.Join(t.TempDir(), "jars")
	calls := filepath.Join(bin, "calls")
	script := "#!/bin/sh\necho x >> " + calls + "\n"
	if err := os.WriteFile(filepath.Join(bin, "mvn"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	errs := make(chan error)
	for range 4 {
		go func() { errs <- fetch(t.Context(), home, pom, quiet()) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if text, err := os.ReadFile(calls); err != nil || string(text) != "x\n" {
		t.Errorf("mvn ran %d times (%v), want once", strings.Count(string(text), "x"), err)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error without %q:\n%v", part, err)
		}
	}
}
