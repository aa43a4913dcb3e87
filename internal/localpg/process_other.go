//go:build unix && !linux

package localpg

import "syscall"

// endWithParent does nothing: only Linux has a parent death signal. A server left
// behind this way is stopped by the next Start on its folder.
func endWithParent(*syscall.SysProcAttr) {}
