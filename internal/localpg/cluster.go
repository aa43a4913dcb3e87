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

// The files of a cluster's folder, next to the log.
const (
	dataDir      = "data"
	newDataDir   = "data.tmp" // the start of names of data that initdb has not finished
	passwordFile = "password"
	portFile     = "port"
)

// cluster is a folder with a server's data and what belongs to it.
type cluster struct {
	dir     string // absolute, without symbolic links
	account *account

	// root is dir. As root we write into a folder that may be another user's:
	// no symbolic link there can lead us elsewhere.
	root *os.Root
}

// openCluster makes the folder where it is missing, and sees to it that the
// server's user can reach it.
func openCluster(dir string) (*cluster, error) {
	if dir == "" {
		return nil, errors.New("no folder given")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	acct, err := chooseAccount(dir)
	if err != nil {
		return nil, err
	}
	// First what is there already, so that nothing is made in vain.
	if err := acct.reach(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	if err := acct.makeDir(dir); err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	if acct != nil {
		if err := letIn(dir, acct); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &cluster{dir: dir, account: acct, root: root}, nil
}

// letIn lets the server's user pass through the folder, without seeing what
// else is in it.
func letIn(dir string, acct *account) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !acct.mayEnter(info) {
		if err := os.Chmod(dir, info.Mode().Perm()|0o111); err != nil {
			return err
		}
	}
	return acct.reach(dir)
}

func (c *cluster) close() { _ = c.root.Close() }

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) data() string { return c.path(dataDir) }

// give makes the server's user the owner of name.
func (c *cluster) give(name string) error {
	if c.account == nil {
		return nil
	}
	return c.root.Lchown(name, int(c.account.uid), int(c.account.gid))
}

// giveAll is give for a folder and all in it, where it is not given yet: data
// that root has copied or unpacked.
func (c *cluster) giveAll(name string) error {
	if c.account == nil {
		return nil
	}
	info, err := c.root.Lstat(name)
	if err != nil || info.Sys().(*syscall.Stat_t).Uid == c.account.uid {
		return err
	}
	err = fs.WalkDir(c.root.FS(), name, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == name {
			return err
		}
		return c.give(path)
	})
	if err != nil {
		return err
	}
	return c.give(name) // last, as the mark that all is done
}

// major returns the major version of the data, 0 where there is none.
func (c *cluster) major() (int, error) {
	if _, err := c.root.Lstat(dataDir); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err := c.giveAll(dataDir); err != nil {
		return 0, fmt.Errorf("give %s to %s: %w", c.data(), c.account.name, err)
	}
	name := filepath.Join(dataDir, "PG_VERSION")
	text, err := c.root.ReadFile(name)
	if errors.Is(err, fs.ErrPermission) {
		return 0, fmt.Errorf("read %s: %w: run mailtally as the user who owns it", c.path(name), err)
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w: remove %s if it holds nothing you need", c.path(name), err, c.data())
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", c.path(name), err)
	}
	return major, nil
}

// command returns a command that runs as the server's user. It inherits
// nothing of our environment but what finds programs and libraries: neither
// settings of PostgreSQL's clients nor our secrets.
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

// init makes the data. It appears under its name only when it is whole.
func (c *cluster) init(ctx context.Context, bin binaries, fast bool) error {
	if err := c.makePassword(); err != nil {
		return fmt.Errorf("make a password for PostgreSQL: %w", err)
	}
	newData, err := c.makeNewDataDir()
	if err != nil {
		return fmt.Errorf("make PostgreSQL's data folder: %w", err)
	}
	args := []string{
		"--pgdata=" + c.path(newData), "--username=" + superuser,
		"--auth=scram-sha-256", "--pwfile=" + c.path(passwordFile),
		"--encoding=UTF8", "--no-locale",
	}
	if fast {
		args = append(args, "--no-sync")
	}
	if err := c.runInitdb(ctx, bin, args); err != nil {
		return errors.Join(err, c.root.RemoveAll(newData))
	}
	return c.root.Rename(newData, dataDir)
}

// makeNewDataDir makes a folder of a new name: the initdb of a process that was
// killed a moment ago may still write to, and remove, its own.
func (c *cluster) makeNewDataDir() (string, error) {
	old, err := fs.Glob(c.root.FS(), newDataDir+"*")
	if err != nil {
		return "", err
	}
	for _, name := range old {
		_ = c.root.RemoveAll(name) // where somebody still writes, the next start's
	}
	name := newDataDir + "-" + rand.Text()
	if err := c.root.Mkdir(name, 0o700); err != nil {
		return "", err
	}
	return name, c.give(name)
}

func (c *cluster) runInitdb(ctx context.Context, bin binaries, args []string) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	var out bytes.Buffer
	cmd := c.command(context.WithoutCancel(ctx), bin.initdb(), args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("run %s: %w", bin.initdb(), err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.killGroup()
		<-p.done
		return fmt.Errorf("run %s: %w", bin.initdb(), context.Cause(ctx))
	}
	if p.err != nil {
		return fmt.Errorf("run %s: %w\n%s", bin.initdb(), p.err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// makePassword writes the password that initdb gives to the role. One from an
// initdb that did not finish is replaced.
func (c *cluster) makePassword() error {
	if err := c.root.Remove(passwordFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := c.root.OpenFile(passwordFile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(rand.Text() + "\n")
	// It must not be lost where the data, which initdb flushes, is not.
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return c.give(passwordFile) // initdb reads it as the server's user
}

func (c *cluster) password() (string, error) {
	text, err := c.root.ReadFile(passwordFile)
	if err != nil {
		return "", fmt.Errorf("read PostgreSQL's password: %w: put %s back, or remove %s if it holds nothing you need",
			err, c.path(passwordFile), c.data())
	}
	return strings.TrimSpace(string(text)), nil
}

// lastPort returns the port of last time, so that URLs and open sessions of
// psql keep working over restarts; 0 where none is known.
func (c *cluster) lastPort() int {
	text, err := c.root.ReadFile(portFile)
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
	if err := c.root.WriteFile(portFile, []byte(strconv.Itoa(port)+"\n"), 0o644); err != nil {
		return fmt.Errorf("remember the port: %w", err)
	}
	return c.give(portFile)
}
