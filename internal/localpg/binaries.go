package localpg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// minMajor is the oldest version that mailtally runs on.
const minMajor = 14

// binaries is a folder with the programs of a PostgreSQL server.
type binaries struct {
	dir     string
	version string // such as "15.18"
}

func (b binaries) program(name string) string { return filepath.Join(b.dir, name) }

// findBinaries returns binaries that can run the cluster: minMajor or newer, and
// exactly its major version if it has data already. If binDir is given, it must be that
// one; otherwise findBinaries looks where servers are usually installed, and downloads
// one if there is none.
func findBinaries(ctx context.Context, binDir string, major int, c *cluster, log *slog.Logger) (binaries, error) {
	if binDir != "" {
		bin, err := probe(ctx, binDir, major, c)
		if err != nil {
			err = fmt.Errorf("use PostgreSQL of %s: %w", binDir, err)
		}
		return bin, err
	}
	var tried []error
	for _, dir := range installed(ctx) {
		bin, err := probe(ctx, dir, major, c)
		if err == nil {
			return bin, nil
		}
		tried = append(tried, err)
	}
	if ctx.Err() != nil { // this is why all of them failed
		return binaries{}, fmt.Errorf("look for PostgreSQL: %w", context.Cause(ctx))
	}
	bin, err := fetchBinaries(ctx, major, c, log)
	if err == nil {
		return bin, nil
	}
	wanted := fmt.Sprintf("%d or newer", minMajor)
	if major != 0 {
		wanted = fmt.Sprintf("%d, which made the data in %s,", major, c.path(dataDir))
	}
	tried = append(tried, fmt.Errorf("nor could one be fetched: %w", err))
	return bin, fmt.Errorf("no PostgreSQL of version %s was found in PATH, by pg_config, or where systems install it: "+
		"install it, point at its bin folder, or set DATABASE_URL to a server that runs:\n%w", wanted, errors.Join(tried...))
}

// installed returns the folders where a server may be, in order of preference.
func installed(ctx context.Context) (dirs []string) {
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
		// It may be a link from a folder without initdb.
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
		"/usr/pgsql-*/bin",                  // PostgreSQL's own RPMs
		"/usr/libexec/postgresql*",          // Alpine
		"/opt/homebrew/opt/postgresql*/bin", // Homebrew on Apple silicon,
		"/usr/local/opt/postgresql*/bin",    // on Intel,
		"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, _ := filepath.Glob(pattern) // Its only error is a bad pattern.
		slices.SortFunc(found, func(a, b string) int { return pathVersion(b) - pathVersion(a) })
		dirs = append(dirs, found...)
	}
	return dirs
}

var digits = regexp.MustCompile(`\d+`)

// pathVersion returns the first number in a path, which in all those above is the major
// version; 0 if there is none.
func pathVersion(path string) int {
	n, _ := strconv.Atoi(digits.FindString(path))
	return n
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`)

// probe returns the binaries in dir if they can run a cluster of the given major
// version, or a new one if that is 0. It runs them as the server will be run, so it
// also finds out whether the server's user can reach them, and the cluster's folder.
func probe(ctx context.Context, dir string, major int, c *cluster) (binaries, error) {
	dir, err := filepath.Abs(dir)
	bin := binaries{dir: dir}
	if err != nil {
		return bin, err
	}
	// Even without a server package, pg_config and the clients are there.
	for _, program := range []string{"postgres", "initdb", "pg_ctl"} {
		if _, err := os.Stat(bin.program(program)); err != nil {
			return bin, err
		}
	}
	cmd := c.command(ctx, bin.program("postgres"), "--version")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return bin, c.account.explain(fmt.Errorf("run %s --version: %w %s", cmd.Path, err, strings.TrimSpace(stderr.String())))
	}
	match := versionLine.FindStringSubmatch(string(out))
	if match == nil {
		return bin, fmt.Errorf("run %s --version: it says %q", cmd.Path, out)
	}
	bin.version = match[1]
	switch is, err := strconv.Atoi(match[2]); {
	case err != nil:
		return bin, fmt.Errorf("version %s of %s: %w", bin.version, dir, err)
	case is < minMajor:
		return bin, fmt.Errorf("version %s of %s is older than %d", bin.version, dir, minMajor)
	case major != 0 && is != major:
		return bin, fmt.Errorf("version %s of %s can't run the data in %s, which PostgreSQL %d made", bin.version, dir, c.path(dataDir), major)
	}
	return bin, nil
}
