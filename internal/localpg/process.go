package localpg

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a child with all the processes it starts in turn.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child and all of its children have ended
	err  error         // how the child ended, valid once done is closed
}

// startProcess starts cmd so that it does not outlive this process, where the
// system can do that, and does not hear the terminal's Ctrl-C: whoever started
// it stops it, in order.
func startProcess(cmd *exec.Cmd) (*process, error) {
	// Every process below inherits the pipe's writing end and none uses it, so
	// its reading end sees the end of file when the last of them is gone. Wait
	// alone would tell of the first only.
	alive, inherited, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, inherited)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	endWithParent(cmd.SysProcAttr)

	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Linux sends the death signal when the thread that started the child
		// ends, not only when the whole process does (golang.org/issue/27505).
		// So the thread stays this goroutine's own for as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		defer alive.Close()

		err := cmd.Start()
		_ = inherited.Close() // Only the children may hold it.
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		_, _ = io.Copy(io.Discard, alive)
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, err
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends sig to the child alone. One that has ended already is no error.
func (p *process) signal(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig)
}

// killGroup ends the child and the processes below it that stayed in its
// group. Call it only before done is closed.
func (p *process) killGroup() {
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
}

// exit returns how the child ended. It is never nil.
func (p *process) exit() error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}
