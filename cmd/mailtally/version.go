package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// runVersion prints the version, what built it, and the commit if known.
func runVersion(_ context.Context, i *invocation) error {
	if err := i.parse(); err != nil {
		return err
	}
	fmt.Fprintf(i.stdout, "mailtally %s\n%s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, s := range buildInfo().Settings {
		if strings.HasPrefix(s.Key, "vcs.") {
			fmt.Fprintf(i.stdout, "%s %s\n", s.Key, s.Value)
		}
	}
	return nil
}

// release is the version that -ldflags "-X main.release=…" has set, as an image's build
// does, whose source has no repository to tell it.
var release string

// version is the module's version, or the commit that the program was built from.
func version() string { return cmp.Or(release, buildInfo().Main.Version) }

func buildInfo() *debug.BuildInfo {
	info, _ := debug.ReadBuildInfo() // present in every program built with modules
	return info
}
