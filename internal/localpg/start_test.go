package localpg

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// programs makes a folder with a postgres and an initdb that are shell scripts.
func programs(t *testing.T, postgres, initdb string) string {
	t.Helper()
	bin := tempDir(t)
	writeFile(t, bin+"/postgres", "#!/bin/sh\n"+postgres, 0o755)
	writeFile(t, bin+"/initdb", "#!/bin/sh\n"+initdb, 0o755)
	writeFile(t, bin+"/pg_ctl", "#!/bin/sh\n", 0o755)
	return bin
}

// pretend is the start of a script that has the version of a real postgres.
const pretend = `[ "$1" = --version ] && { echo 'postgres (PostgreSQL) 15.1'; exit; }` + "\n"

// block returns a script that reports on a named pipe that it is running and then waits
// forever, with a child; and the pipe.
func block(t *testing.T) (script string, pipe *os.File) {
	t.Helper()
	dir := tempDir(t)
	runs, never := dir+"/runs", dir+"/never"
	for _, path := range []string{runs, never} {
		if err := syscall.Mkfifo(path, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o666); err != nil { // whatever the umask is
			t.Fatal(err)
		}
	}
	// Open for writing too: then the other side's open never blocks.
	pipe, err := os.OpenFile(runs, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pipe.Close() })
	return "cat " + never + " & echo yes > " + runs + "; wait\n", pipe
}

// startCancelled starts a server from programs that block, cancels the start when they
// do, and returns its error. Start returns only when they have ended.
func startCancelled(t *testing.T, o Options, pipe *os.File) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	result := make(chan error)
	go func() {
		_, err := Start(ctx, o)
		result <- err
	}()
	if err := pipe.SetReadDeadline(time.Now().Add(deadline)); err != nil {
		t.Error(err)
	}
	if _, err := bufio.NewReader(pipe).ReadString('\n'); err != nil {
		t.Error(err)
	}
	cancel()
	return <-result
}

func TestCancelledInitdb(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	script, pipe := block(t)
	err := startCancelled(t, Options{Dir: dir, BinDir: programs(t, pretend, script)}, pipe)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	wantMissing(t, dir+"/data")
	wantMissing(t, dir+"/data.tmp*")
	start(t, Options{Dir: dir})
}

func TestCancelledServer(t *testing.T) {
	t.Parallel()
	script, pipe := block(t)
	postgres := pretend + "trap 'kill $!; exit' INT\n" + script
	err := startCancelled(t, Options{Dir: tempDir(t), BinDir: programs(t, postgres, "")}, pipe)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestStartAfterItsContext(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 { // the first without data, the second with
		_, err := Start(ctx, Options{Dir: dir})
		if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "fetch") {
			t.Errorf("Start: %v", err) // a search that is cut short must not end in a download
		}
		wantMissing(t, dir+"/data/postmaster.pid")
		stop(t, start(t, Options{Dir: dir}))
	}
}

func TestFailedInitdb(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	_, err := Start(t.Context(), Options{Dir: dir, BinDir: programs(t, pretend, "echo the disk is on fire >&2; exit 3")})
	wantError(t, err, "initdb", "exit status 3", "the disk is on fire")
	wantMissing(t, dir+"/data")
	wantMissing(t, dir+"/data.tmp*")
}

func TestFailedServer(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Options{Dir: tempDir(t), Settings: map[string]string{"no_such_setting": "1"}})
	wantError(t, err, "exit status 1", "no_such_setting", "postgresql.log")
}

func TestHalfMadeData(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	writeFile(t, dir+"/data.tmp-1/base/1/junk", "", 0o600)
	writeFile(t, dir+"/password", "", 0o600) // as after a kill in its write
	start(t, Options{Dir: dir})
	wantMissing(t, dir+"/data.tmp*")
}

func TestUnusableBinDir(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Options{Dir: tempDir(t), BinDir: tempDir(t)})
	wantError(t, err, "use PostgreSQL of", "/postgres: no such file")

	bin := programs(t, pretend, "")
	if err := os.Remove(bin + "/initdb"); err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), Options{Dir: tempDir(t), BinDir: bin})
	wantError(t, err, "use PostgreSQL of", "/initdb: no such file")

	old := "echo 'postgres (PostgreSQL) 13.9 (Debian)'"
	_, err = Start(t.Context(), Options{Dir: tempDir(t), BinDir: programs(t, old, "")})
	wantError(t, err, "version 13.9", "is older than 14")

	broken := "echo no libssl here >&2; exit 127"
	_, err = Start(t.Context(), Options{Dir: tempDir(t), BinDir: programs(t, broken, "")})
	wantError(t, err, "exit status 127", "no libssl here")
}

func TestDataOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	writeFile(t, dir+"/data/PG_VERSION", "9\n", 0o644)
	if os.Geteuid() == 0 { // whose data is refused for another reason
		if err := os.Chown(dir+"/data", 4321, 4321); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Start(t.Context(), Options{Dir: dir})
	wantError(t, err, "no PostgreSQL of version 9, which made the data", "no build of PostgreSQL 9", "DATABASE_URL")

	_, err = Start(t.Context(), Options{Dir: dir, BinDir: programs(t, pretend, "")})
	wantError(t, err, "version 15.1", "can't run the data in "+dir+"/data, which PostgreSQL 9 made")
}

// Root's files must be accessible to the user that the server runs as; other users
// don't need that.
func TestFolderThatOthersCannotEnter(t *testing.T) {
	t.Parallel()
	closed := tempDir(t)
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		start(t, Options{Dir: closed + "/dir"})
		return
	}
	_, err := Start(t.Context(), Options{Dir: closed + "/dir"})
	wantError(t, err, closed+"/dir", "cannot enter the folder", "choose one such as /var/lib/mailtally")

	// The folder itself may be opened.
	start(t, Options{Dir: closed})
}

func TestWhoRunsTheServer(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	if os.Geteuid() != 0 {
		stop(t, start(t, Options{Dir: dir}))
		wantOwner(t, dir+"/data", os.Geteuid())
		return
	}
	stop(t, start(t, Options{Dir: dir}))
	// The data's owner, as in a container without that user.
	if out, err := exec.Command("chown", "-R", "4321", dir+"/data").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	stop(t, start(t, Options{Dir: dir}))
	wantOwner(t, dir+"/data", 4321)
	if out, err := exec.Command("chown", "-R", "root", dir+"/data").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, err := Start(t.Context(), Options{Dir: dir})
	wantError(t, err, dir+"/data belongs to root", "chown")
}

func wantOwner(t *testing.T, path string, want int) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if uid := int(info.Sys().(*syscall.Stat_t).Uid); uid != want {
		t.Errorf("%s belongs to uid %d, want %d", path, uid, want)
	}
}

// As root we must not follow links that the folder's owner has placed there.
func TestNoWritesThroughSymbolicLinks(t *testing.T) {
	t.Parallel()
	dir, victim := tempDir(t), tempDir(t)+"/victim"
	writeFile(t, victim, "untouched", 0o600)
	if err := os.Symlink(victim, dir+"/postgresql.log"); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Options{Dir: dir}); err == nil {
		t.Error("no error")
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "untouched" {
		t.Errorf("the file behind the link has %q, %v", text, err)
	}
}
