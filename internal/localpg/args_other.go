//go:build unix && !linux

package localpg

import (
	"os/exec"
	"strconv"
	"strings"
)

// processArgs returns the arguments of a process, nil where it is gone.
func processArgs(pid int) []string {
	out, err := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return nil
	}
	// ps joins the arguments with spaces. serverArgs puts the data folder,
	// which may hold some itself, between these two.
	program, rest, ok := strings.Cut(strings.TrimSpace(string(out)), " -D ")
	if !ok {
		return nil
	}
	data, _, _ := strings.Cut(rest, " -c ")
	return []string{program, "-D", data}
}
