package main

import "syscall"

// maxFiles is how many files the process may have open, connections among them.
func maxFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return manyFiles
	}
	return int(min(uint64(limit.Cur), manyFiles)) // Cur may be "infinite"
}
