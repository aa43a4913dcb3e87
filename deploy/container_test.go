package deploy

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// How a container runs, without a container engine: in a root of its own that can't
// be written and has only what the image has, as a user that nobody has heard of,
// without a home, with the environment that it is given and no more. The network is
// this machine's.

var builtImage = sync.OnceValues(func() (*containerImage, error) {
	return makeImage(filepath.Dir(mailtally)) // removed when the tests end
})

// theImage is the image, built once.
func theImage(t *testing.T) *containerImage {
	t.Helper()
	i, err := builtImage()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// command is one that runs the image's program in a container. None of it forks, so
// the command's process is the program's.
func (i *containerImage) command(environ, args []string) (path string, argv []string) {
	argv = append(slices.Clone(i.entrypoint), args...)
	if os.Geteuid() == 0 {
		// The files are root's, so the image's user can't write them: no mount is needed,
		// which an engine's containers, where CI runs this, may not make.
		inside := []string{"/usr/sbin/chroot", "--userspec=" + i.uid + ":" + i.gid, "--groups=", i.root}
		return "env", slices.Concat([]string{"-i"}, environ, inside, argv)
	}
	// Root of a user namespace may mount; in one more it is the image's user, whose the
	// files are. $1 is the root: bound to itself it is a mount, which can be made
	// read-only.
	const readOnly = `root=$1; shift; mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"; exec env -i "$@"`
	outside := []string{"--user", "--map-root-user", "--mount", "--", "sh", "-ec", readOnly, "sh", i.root}
	inside := []string{"/usr/bin/unshare", "--user", "--map-user=" + i.uid, "--map-group=" + i.gid, "--root=" + i.root, "--"}
	return "unshare", slices.Concat(outside, environ, inside, argv)
}

// run starts a container, which runs until the test ends.
func (i *containerImage) run(t *testing.T, environ []string, args ...string) *process {
	t.Helper()
	path, argv := i.command(environ, args)
	return start(t, nil, path, argv...)
}

// exec runs a container to its end, and returns its exit code and what it printed.
func (i *containerImage) exec(t *testing.T, environ []string, args ...string) (int, string) {
	t.Helper()
	path, argv := i.command(environ, args)
	cmd := exec.CommandContext(t.Context(), path, argv...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %q: %v", path, argv, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}
