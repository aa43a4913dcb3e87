package localpg

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The files in a cluster's folder.
const (
	dataDir      = "data"
	newDataDir   = "data.tmp-" // the start of names of data that initdb has not finished
	passwordFile = "password"
	portFile     = "port"
	logFile      = "postgresql.log"
)

// cluster is a folder with a server's data and related files. The folder belongs to us;
// the data belongs to the server's user.
type cluster struct {
	dir     string // absolute
	account *account
}

// openCluster creates the folder if missing, and lets the server's user pass through
// it, without seeing what else is in it.
func openCluster(dir string) (*cluster, error) {
	if dir == "" {
		return nil, errors.New("no folder given")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir}
	if c.account, err = chooseAccount(c.path(dataDir)); err != nil {
		return nil, err
	}
	if c.account == nil {
		return c, os.MkdirAll(dir, 0o700)
	}
	if err := makeOpenDir(dir); err != nil {
		return nil, err
	}
	// A parent folder may be closed to the server's user.
	return c, c.account.explain(c.command(context.Background(), "true").Run())
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

// major returns the major version of the data; 0 if there is none.
func (c *cluster) major() (int, error) {
	name := c.path(filepath.Join(dataDir, "PG_VERSION"))
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(c.path(dataDir)); errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
	}
	if err != nil {
		return 0, fmt.Errorf("%w: run mailtally as the user who owns it, or remove %s if it holds nothing you need", err, c.path(dataDir))
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return major, nil
}

// command returns a command that runs as the server's user. It inherits only what finds
// programs and libraries from our environment: neither settings of PostgreSQL's clients
// nor our secrets.
func (c *cluster) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = c.dir // one that the server's user can enter
	// The time zone becomes the cluster's default; macOS needs a valid locale.
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.account.credential()}
	return cmd
}

// init creates the data. It gets its final name only once it is complete, and what a
// killed process has left is removed.
func (c *cluster) init(ctx context.Context, bin binaries, fast bool) error {
	left, _ := filepath.Glob(c.path(newDataDir + "*"))
	for _, dir := range left {
		_ = os.RemoveAll(dir) // if somebody is still writing, the next start removes it
	}
	newData := c.path(newDataDir + rand.Text())
	password := c.path(passwordFile)
	_ = os.Remove(password)
	err := errors.Join(os.Mkdir(newData, 0o700), c.account.own(newData), writeSynced(password, rand.Text()), c.account.own(password))
	if err != nil {
		return fmt.Errorf("make PostgreSQL's data folder: %w", err)
	}
	args := []string{
		"--pgdata=" + newData, "--username=" + superuser, "--auth=scram-sha-256", "--pwfile=" + password,
		"--encoding=UTF8", "--no-locale",
	}
	if fast {
		args = append(args, "--no-sync")
	}
	if err := c.run(ctx, bin.program("initdb"), args...); err != nil {
		return errors.Join(err, os.RemoveAll(newData))
	}
	return os.Rename(newData, c.path(dataDir))
}

// run runs a program to its end. If ctx ends, so do the program and all that it
// started.
func (c *cluster) run(ctx context.Context, program string, args ...string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var out bytes.Buffer
	cmd := c.command(context.WithoutCancel(ctx), program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.killGroup()
		<-p.done
		return fmt.Errorf("run %s: %w", program, context.Cause(ctx))
	}
	if p.err != nil {
		return fmt.Errorf("run %s: %w\n%s", program, p.err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// writeSynced writes a file that must survive even if files flushed later do not.
func writeSynced(name, text string) error {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text + "\n")
	return errors.Join(err, file.Sync(), file.Close())
}

// lastPort returns the port used last time; 0 if unknown.
func (c *cluster) lastPort() int {
	text, err := os.ReadFile(c.path(portFile))
	if err != nil {
		return 0
	}
	port, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 16)
	if err != nil {
		return 0
	}
	return int(port)
}

func (c *cluster) rememberPort(port int) error {
	if c.lastPort() == port {
		return nil
	}
	return os.WriteFile(c.path(portFile), []byte(strconv.Itoa(port)+"\n"), 0o644)
}
