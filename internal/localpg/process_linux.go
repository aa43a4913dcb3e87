package localpg

import "syscall"

// endWithParent has the kernel ask the child for a fast shutdown when its
// parent is gone, kill -9 included.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }
