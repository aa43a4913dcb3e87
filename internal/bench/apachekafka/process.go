package apachekafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a child that does not outlive this process, where the system can
// do that.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended, never nil, valid once done is closed
}

// startProcess starts cmd in a process group of its own: it does not hear the
// terminal's Ctrl-C, since whoever started it stops it.
func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd.SysProcAttr)

	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Linux sends the death signal when the thread that started the child ends
		// (golang.org/issue/27505), so the thread stays this goroutine's for as long
		// as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		if p.err = cmd.Wait(); p.err == nil {
			p.err = errors.New("exit status 0")
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends sig. A process that has ended already is no error.
func (p *process) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// kill ends the process, and waits until it has.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// run runs cmd to its end. Its error has what cmd said.
func run(ctx context.Context, cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("run %s: %w", cmd.Path, context.Cause(ctx))
	}
	if !cmd.ProcessState.Success() {
		return fmt.Errorf("run %s: %w\n%s", cmd.Path, p.err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}
