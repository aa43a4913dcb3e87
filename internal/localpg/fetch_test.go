package localpg

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFetchedServer needs the network where the cache, which is the one that
// mailtally uses, is empty.
func TestFetchedServer(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	bin, err := Fetch(t.Context(), dir, 18)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Dir: dir, BinDir: bin})
	if got := query(t, s.URL("postgres"), "SHOW server_version"); got != s.Version() || !strings.HasPrefix(got, "18.") {
		t.Errorf("the server has version %q, want 18 and %q", got, s.Version())
	}
	left, err := filepath.Glob(filepath.Dir(bin) + tmpSuffix + "*")
	if err != nil || len(left) > 0 {
		t.Errorf("left in the cache: %v, %v", left, err)
	}
}

func TestFetchWithoutNetwork(t *testing.T) {
	t.Parallel()
	cache := tempDir(t)
	home := filepath.Join(cache, "postgresql-x")

	// What a killed process left long ago goes, one under way stays.
	stale, fresh := home+tmpSuffix+"1", home+tmpSuffix+"2"
	writeFile(t, stale+"/dist/bin/postgres", "", 0o755)
	writeFile(t, fresh+"/dist/bin/postgres", "", 0o755)
	old := time.Now().Add(-2 * staleFetch)
	if err := os.Chtimes(stale, old, old); err != nil {
		t.Fatal(err)
	}

	// In another process, as the proxy's address is read but once.
	out, err := helper(t, "fetch", home,
		"HTTPS_PROXY=http://127.0.0.1:1", "https_proxy=", "TMPDIR="+tempDir(t)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "unable to connect") {
		t.Errorf("error of the fetch: %s", out)
	}
	entries, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != filepath.Base(fresh) {
		t.Errorf("left in the cache: %v", entries)
	}
}

func TestNotFoundSaysWhatToDo(t *testing.T) {
	t.Parallel()
	tried := []candidate{
		{source: "pg_config --bindir", err: errors.New("not in PATH")},
		{source: "installed", dir: "/usr/lib/postgresql/13/bin", err: errors.New("version 13.9 is older than 14")},
	}
	err := notFound(0, tried, fs.ErrPermission)
	wantError(t, err, "no PostgreSQL server of version 14 or newer", "pg_config --bindir: not in PATH", "/usr/lib/postgresql/13/bin",
		"permission denied", "install PostgreSQL 14 or newer", "point at its bin folder", "DATABASE_URL")
	if !errors.Is(err, fs.ErrPermission) {
		t.Error("it does not wrap the fetch's error")
	}
	wantError(t, notFound(16, nil, fs.ErrPermission), "version 16, which made the data", "install PostgreSQL 16 or", "remove the data")
}
