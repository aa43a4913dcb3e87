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
	major   int
}

func (b binaries) postgres() string { return filepath.Join(b.dir, "postgres") }
func (b binaries) initdb() string   { return filepath.Join(b.dir, "initdb") }

// candidate is a place that may hold binaries.
type candidate struct {
	source string // how it came up, for the error
	dir    string
	err    error // why it came to nothing
}

func (c candidate) String() string {
	if c.dir == "" {
		return fmt.Sprintf("%s: %v", c.source, c.err)
	}
	return fmt.Sprintf("%s (%s): %v", c.dir, c.source, c.err)
}

// findBinaries returns binaries that can run the cluster: of minMajor or
// newer, and of exactly its major version if it has data already. binDir, if
// given, must be the one.
func findBinaries(ctx context.Context, binDir string, major int, c *cluster, log *slog.Logger) (binaries, error) {
	if binDir != "" {
		bin, err := probe(ctx, binDir, major, c)
		if err != nil {
			return bin, fmt.Errorf("use PostgreSQL of %s: %w", binDir, err)
		}
		return bin, nil
	}
	tried := candidates(ctx)
	for i := range tried {
		if tried[i].err != nil {
			continue
		}
		bin, err := probe(ctx, tried[i].dir, major, c)
		if err == nil {
			return bin, nil
		}
		tried[i].err = err
	}
	if ctx.Err() != nil { // Then that is why all of them failed.
		return binaries{}, fmt.Errorf("look for PostgreSQL: %w", context.Cause(ctx))
	}
	bin, err := fetchBinaries(ctx, major, c, log)
	if err == nil {
		return bin, nil
	}
	return bin, notFound(major, tried, err)
}

// notFound says what was looked for where, and what can be done.
func notFound(major int, tried []candidate, fetch error) error {
	wanted, install := fmt.Sprintf("%d or newer", minMajor), ""
	if major != 0 {
		wanted = fmt.Sprintf("%d, which made the data,", major)
		install = ", or remove the data if you do not need it"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "no PostgreSQL server of version %s was found:\n", wanted)
	for _, t := range tried {
		fmt.Fprintf(&b, "  %v\n", t)
	}
	return fmt.Errorf("%sand it could not be fetched: %w\n"+
		"install PostgreSQL %s or point at its bin folder, or set DATABASE_URL to a server that runs%s",
		b.String(), fetch, strings.TrimSuffix(wanted, ", which made the data,"), install)
}

// candidates returns the places where a server may be installed, in the order
// of preference.
func candidates(ctx context.Context) []candidate {
	var all []candidate
	add := func(source, dir string, err error) {
		known := func(c candidate) bool { return c.dir == dir && dir != "" }
		if !slices.ContainsFunc(all, known) {
			all = append(all, candidate{source: source, dir: dir, err: err})
		}
	}

	out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output()
	add("pg_config --bindir", strings.TrimSpace(string(out)), err)

	path, err := exec.LookPath("postgres")
	if err != nil {
		add("postgres in PATH", "", err)
	} else {
		add("postgres in PATH", filepath.Dir(path), nil)
		// It may be a link out of a folder that has no initdb.
		if path, err = filepath.EvalSymlinks(path); err == nil {
			add("postgres in PATH", filepath.Dir(path), nil)
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
		dirs, _ := filepath.Glob(pattern) // Its only error is a bad pattern.
		slices.SortFunc(dirs, func(a, b string) int { return pathVersion(b) - pathVersion(a) })
		for _, dir := range dirs {
			add("installed", dir, nil)
		}
		if len(dirs) == 0 {
			add("installed", pattern, errors.New("no such folder"))
		}
	}
	return all
}

var digits = regexp.MustCompile(`\d+`)

// pathVersion returns the first number in a path, which is the major version
// in all those above; 0 where there is none.
func pathVersion(path string) int {
	n, _ := strconv.Atoi(digits.FindString(path))
	return n
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`)

// probe returns the binaries in dir if they can run a cluster of the given
// major version, or a new one if that is 0. It runs them as the server will,
// so it also finds out whether the server's user can reach them.
func probe(ctx context.Context, dir string, major int, c *cluster) (binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return binaries{}, err
	}
	bin := binaries{dir: dir}
	// Without a server package, pg_config and the clients are there all the same.
	for _, program := range []string{bin.postgres(), bin.initdb()} {
		if _, err := os.Stat(program); err != nil {
			return bin, err
		}
	}
	cmd := c.command(ctx, bin.postgres(), "--version")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return bin, fmt.Errorf("run %s --version: %w %s", bin.postgres(), err, strings.TrimSpace(stderr.String()))
	}
	match := versionLine.FindStringSubmatch(string(out))
	if match == nil {
		return bin, fmt.Errorf("run %s --version: it says %q", bin.postgres(), out)
	}
	bin.version = match[1]
	if bin.major, err = strconv.Atoi(match[2]); err != nil {
		return bin, fmt.Errorf("version %s: %w", bin.version, err)
	}
	if bin.major < minMajor {
		return bin, fmt.Errorf("version %s is older than %d", bin.version, minMajor)
	}
	if major != 0 && bin.major != major {
		return bin, fmt.Errorf("version %s can't run the data in %s, which PostgreSQL %d made", bin.version, c.data(), major)
	}
	return bin, nil
}
