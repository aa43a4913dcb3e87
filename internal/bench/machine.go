package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// machine is what a run ran on.
type machine struct {
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	MemoryGB float64           `json:"memory_gb"`
	System   string            `json:"system"`
	Versions map[string]string `json:"versions"`
}

func thisMachine() machine {
	m := machine{
		CPU:      "unknown",
		Cores:    runtime.NumCPU(),
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

// version notes which version of something was measured.
func (m *machine) version(of, version string) { m.Versions[of] = version }

func (m *machine) markdown() string {
	var versions []string
	for name, version := range m.Versions {
		versions = append(versions, name+" "+version)
	}
	slices.Sort(versions)
	return fmt.Sprintf("%s, %d cores for everything together, %s GB, %s. %s.",
		m.CPU, m.Cores, number(m.MemoryGB), m.System, strings.Join(versions, ", "))
}
