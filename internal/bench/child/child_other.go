//go:build unix && !linux

package child

import "syscall"

// endWithParent does nothing: only Linux knows a parent death signal.
func endWithParent(*syscall.SysProcAttr) {}
