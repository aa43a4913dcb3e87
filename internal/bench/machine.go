package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// machine is what a run ran on.
type machine struct {
	CPU        string            `json:"cpu"`
	Cores      int               `json:"cores"`
	MemoryGB   float64           `json:"memory_gb"`
	System     string            `json:"system"`
	Filesystem string            `json:"filesystem,omitempty"` // of the data, where the system tells
	FsyncMS    float64           `json:"fsync_ms"`             // after a small append
	Versions   map[string]string `json:"versions"`
}

func thisMachine() machine {
	m := machine{
		CPU:      "unknown",
		Cores:    runtime.GOMAXPROCS(0), // fewer than the machine has, under a limit
		System:   runtime.GOOS + "/" + runtime.GOARCH,
		Versions: map[string]string{"Go": strings.TrimPrefix(runtime.Version(), "go")},
	}
	// Linux tells; elsewhere the report goes without.
	for line := range strings.Lines(readFile("/proc/cpuinfo")) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	var kB float64
	if _, err := fmt.Sscanf(readFile("/proc/meminfo"), "MemTotal: %f kB", &kB); err == nil {
		m.MemoryGB = float64(int(kB/(1<<20)*10+.5)) / 10
	}
	if out, err := exec.Command("uname", "-sr").Output(); err == nil {
		m.System = strings.TrimSpace(string(out)) + " " + runtime.GOARCH
	}
	return m
}

func readFile(path string) string {
	text, _ := os.ReadFile(path) // "" where there is none
	return string(text)
}

// storage finds out what the folder for the data lies on. Memory is refused: an
// fsync costs nothing there, and what is measured is how often one is needed.
func (m *machine) storage(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	m.Filesystem = filesystem(readFile("/proc/self/mountinfo"), dir)
	if m.Filesystem == "tmpfs" || m.Filesystem == "ramfs" {
		return fmt.Errorf("%s is in memory (%s), where an fsync costs nothing: name a folder on a disk with -dir", dir, m.Filesystem)
	}
	took, err := fsyncTime(dir)
	m.FsyncMS = milliseconds(took)
	return err
}

// filesystem finds the type of the one that holds path, which is absolute and
// without symbolic links, in the text of proc(5)'s mountinfo: "" without one.
func filesystem(mountinfo, path string) (typ string) {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	longest := 0
	for line := range strings.Lines(mountinfo) {
		// 36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw
		mount, super, ok := strings.Cut(line, " - ")
		fields, types := strings.Fields(mount), strings.Fields(super)
		if !ok || len(fields) < 5 || len(types) == 0 {
			continue
		}
		point := strings.TrimSuffix(unescape.Replace(fields[4]), "/") + "/"
		// Of two at the same place the later one hides the other.
		if strings.HasPrefix(path+"/", point) && len(point) >= longest {
			longest, typ = len(point), types[0]
		}
	}
	return typ
}

// fsyncTime is the median time of an fsync after an append of a page, which is
// about what a commit waits for.
func fsyncTime(dir string) (time.Duration, error) {
	file, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	times := make([]time.Duration, 51)
	for i := range times {
		if _, err := file.Write(make([]byte, 8<<10)); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := file.Sync(); err != nil {
			return 0, fmt.Errorf("fsync %s: %w", file.Name(), err)
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// version notes which version of something was measured.
func (m *machine) version(of, version string) { m.Versions[of] = version }

func (m *machine) markdown() string {
	var versions []string
	for name, version := range m.Versions {
		versions = append(versions, name+" "+version)
	}
	slices.Sort(versions)
	data := "All data on a disk"
	if m.Filesystem != "" {
		data = "All data on " + m.Filesystem
	}
	return fmt.Sprintf("%s, %d cores for everything together, %s GB, %s. %s, where an fsync after a small append takes %s ms. %s.",
		m.CPU, m.Cores, number(m.MemoryGB), m.System, data, number(m.FsyncMS), strings.Join(versions, ", "))
}
