package localpg

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// orphanTimeout is how long a lost server has for a fast shutdown.
const orphanTimeout = 10 * time.Second

// postmasterFile reads the file in which a server tells of itself: its
// process and, from the first moment to the last, its state.
func (c *cluster) postmasterFile() (pid int, state string) {
	text, err := c.root.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return 0, ""
	}
	// The lines are PostgreSQL's LOCK_FILE_LINE_*: the process first, the
	// state eighth.
	lines := strings.Split(string(text), "\n")
	if pid, err = strconv.Atoi(strings.TrimSpace(lines[0])); err != nil {
		return 0, ""
	}
	if len(lines) > 7 {
		state = strings.TrimSpace(lines[7])
	}
	return pid, state
}

// readyPID returns the process of the server that accepts connections on this
// data, 0 where there is none.
func (c *cluster) readyPID() int {
	if pid, state := c.postmasterFile(); state == "ready" {
		return pid
	}
	return 0
}

// isPostmaster tells whether the process is a PostgreSQL server on this data.
// A postmaster.pid may be old and its number another program's by now.
func (c *cluster) isPostmaster(pid int) bool {
	args := processArgs(pid)
	return len(args) > 0 && filepath.Base(args[0]) == "postgres" && slices.Contains(args, c.data())
}

// stopOrphan ends a server that runs on this data: see the package's comment on
// why it can only be a lost one. A postmaster.pid without a process is left to
// PostgreSQL, which knows what to do.
func (c *cluster) stopOrphan(ctx context.Context, log *slog.Logger) error {
	pid, _ := c.postmasterFile()
	if pid <= 1 {
		return nil
	}
	// In this order: where the system has handles of processes, what is
	// looked at is what gets the signal, even if the number is used anew.
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil
	}
	defer p.Release()
	if !c.isPostmaster(pid) {
		return nil
	}
	log.WarnContext(ctx, "stopping a PostgreSQL server that an earlier process left behind", "pid", pid, "dir", c.dir)

	// A death signal may have come before ours: then this changes nothing.
	if err := p.Signal(syscall.SIGINT); err != nil && c.isPostmaster(pid) {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	patience := time.NewTimer(orphanTimeout)
	defer patience.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for c.isPostmaster(pid) {
		select {
		case <-look.C:
		case <-patience.C:
			_ = p.Signal(syscall.SIGQUIT)
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of process %d: %w", pid, context.Cause(ctx))
		}
	}
	return nil
}
