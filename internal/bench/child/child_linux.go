package child

import "syscall"

// endWithParent has the kernel kill the child when its parent is gone, kill -9
// included.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
