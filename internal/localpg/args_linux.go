package localpg

import (
	"os"
	"strconv"
	"strings"
)

// processArgs returns the arguments of a process, nil where it is gone, a
// zombie included. Everybody may read them, unlike the process's folder.
func processArgs(pid int) []string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}
