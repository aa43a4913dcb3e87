package localpg

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestRestartKeepsDataAndPort(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)

	first := start(t, Options{Dir: dir})
	query(t, first.URL("postgres"), "CREATE TABLE kept AS SELECT 42 AS n")
	if version := query(t, first.URL("postgres"), "SHOW server_version"); !strings.HasPrefix(version, first.Version()) {
		t.Errorf("Version() = %q, the server says %q", first.Version(), version)
	}
	// The terminal's Ctrl-C goes to our group, and must not reach the server.
	if group, err := syscall.Getpgid(first.Pid()); err != nil || group != first.Pid() {
		t.Errorf("the server's process group is %d, %v; want its own", group, err)
	}
	stop(t, first)
	stop(t, first) // idempotent
	select {
	case <-first.Done():
	default:
		t.Error("Done is open after Stop")
	}
	if err := first.Err(); err != nil {
		t.Errorf("Err after Stop: %v", err)
	}
	wantMissing(t, dir+"/data/postmaster.pid")

	second := start(t, Options{Dir: dir})
	if got := query(t, second.URL("postgres"), "SELECT n FROM kept"); got != "42" {
		t.Errorf("kept data = %q, want 42", got)
	}
	if first.URL("postgres") != second.URL("postgres") {
		t.Error("the URL changed over a restart")
	}
}

func TestStopFromManyGoroutines(t *testing.T) {
	t.Parallel()
	s := start(t, Options{Dir: tempDir(t)})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { stop(t, s) })
	}
	all.Wait()
}

func TestTwoServersAtOnce(t *testing.T) {
	t.Parallel()
	var servers [2]*Server
	var errs [2]error
	var all sync.WaitGroup
	for i := range servers {
		dir := tempDir(t)
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			servers[i], errs[i] = Start(ctx, Options{Dir: dir})
		})
	}
	all.Wait()
	for i, s := range servers {
		if errs[i] != nil {
			t.Error(errs[i])
			continue
		}
		defer stop(t, s)
		query(t, s.URL("postgres"), "SELECT 1")
	}
}

func TestTakenPortIsReplaced(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	first := start(t, Options{Dir: dir})
	stop(t, first)
	l, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(first.port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	second := start(t, Options{Dir: dir})
	if second.port == first.port {
		t.Fatal("the server claims a port that is ours")
	}
	query(t, second.URL("postgres"), "SELECT 1")
	stop(t, second)
	if err := second.Err(); err != nil {
		t.Errorf("once it is stopped, it has the error of the first try: %v", err)
	}

	if third := start(t, Options{Dir: dir}); third.port != second.port {
		t.Errorf("port %d after a restart, want %d", third.port, second.port)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	s := start(t, Options{Dir: tempDir(t), Settings: map[string]string{
		"work_mem":         "7MB",
		"listen_addresses": "*",
	}})
	for name, want := range map[string]string{
		"work_mem":                "7MB",
		"listen_addresses":        "127.0.0.1", // not the caller's to change
		"unix_socket_directories": "",
		"fsync":                   "on",
		"server_encoding":         "UTF8",
		"TimeZone":                "UTC",
	} {
		got := query(t, s.URL("postgres"), "SHOW "+name)
		if name == "TimeZone" {
			got = strings.TrimPrefix(got, "Etc/")
		}
		if got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestWantsThePassword(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := start(t, Options{Dir: dir})

	u, err := url.Parse(s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(superuser, "wrong")
	conn, err := pgx.Connect(t.Context(), u.String())
	if err == nil {
		conn.Close(t.Context())
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "28P01" {
		t.Errorf("connect with a wrong password: %v", err)
	}
	for _, file := range []string{"/password", "/postgresql.log"} {
		info, err := os.Stat(dir + file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s = %04o", file, info.Mode().Perm())
		}
	}
	log, err := os.ReadFile(dir + "/postgresql.log")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), s.password) {
		t.Error("the password is in the log")
	}

	// A wrong password for the role fails the start at once, not only at its deadline.
	stop(t, s)
	writeFile(t, dir+"/password", "other\n", 0o600)
	_, err = Start(t.Context(), Options{Dir: dir})
	wantError(t, err, dir+"/password", "28P01")
	wantMissing(t, dir+"/data/postmaster.pid")
}

func TestDeathOfTheServerIsNoticed(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := start(t, Options{Dir: dir})
	query(t, s.URL("postgres"), "CREATE TABLE committed AS SELECT 42 AS n")
	if err := s.Err(); err != nil {
		t.Errorf("Err of a running server: %v", err)
	}

	s.process.signal(syscall.SIGKILL)
	<-s.Done()
	wantError(t, s.Err(), "ended by itself", "killed", dir+"/postgresql.log")
	stop(t, s)

	again := start(t, Options{Dir: dir})
	if got := query(t, again.URL("postgres"), "SELECT n FROM committed"); got != "42" {
		t.Errorf("committed data = %q, want 42", got)
	}
}

func TestStopWithoutTime(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := start(t, Options{Dir: dir})
	query(t, s.URL("postgres"), "CREATE TABLE committed AS SELECT 42 AS n")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// A stopped postmaster can't follow the first two signals.
	s.process.signal(syscall.SIGSTOP)
	if err := s.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop: %v", err)
	}
	select {
	case <-s.Done():
	default:
		t.Error("Stop returned before the server's end")
	}
	again := start(t, Options{Dir: dir})
	if got := query(t, again.URL("postgres"), "SELECT n FROM committed"); got != "42" {
		t.Errorf("committed data = %q, want 42", got)
	}
}

func TestLostServerIsStopped(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	lost := start(t, Options{Dir: dir})
	query(t, lost.URL("postgres"), "CREATE TABLE kept AS SELECT 42 AS n")

	s := start(t, Options{Dir: dir})
	<-lost.Done()
	wantError(t, lost.Err(), "ended by itself")
	if got := query(t, s.URL("postgres"), "SELECT n FROM kept"); got != "42" {
		t.Errorf("kept data = %q, want 42", got)
	}
}

// A postmaster.pid may name a process that is another program by now: here this one,
// which must not be stopped.
func TestStalePostmasterFile(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	stop(t, start(t, Options{Dir: dir}))
	writeFile(t, dir+"/data/postmaster.pid", strconv.Itoa(os.Getpid())+"\n"+dir+"/data\n", 0o600)
	giveToOwnerOf(t, dir+"/data/PG_VERSION", dir+"/data/postmaster.pid")
	start(t, Options{Dir: dir})
}

// giveToOwnerOf makes the owner of one file that of the other.
func giveToOwnerOf(t *testing.T, like, name string) {
	t.Helper()
	info, err := os.Stat(like)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(name, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
}
