//go:build unix && !linux

package localpg

import "syscall"

// endWithParent does nothing: only Linux knows a parent death signal. A server
// that was lost this way is stopped by the next Start on its folder.
func endWithParent(*syscall.SysProcAttr) {}
