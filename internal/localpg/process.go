package localpg

import (
	"errors"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a child that does not outlive this process, if the system can ensure that,
// and does not get the terminal's Ctrl-C: whoever started it stops it, in order.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has ended
	err  error         // how, valid once done is closed
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr.Setpgid = true
	endWithParent(cmd.SysProcAttr)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Linux sends the death signal when the thread that started the child ends, not
		// only when the whole process does (golang.org/issue/27505). So this goroutine
		// keeps the thread for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// signal sends sig to the child alone. One that has ended already is no error.
func (p *process) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// killGroup kills the child and its descendants that stayed in its group. Call it only
// before done is closed.
func (p *process) killGroup() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// exit returns how the child ended. It is never nil.
func (p *process) exit() error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}
