package localpg

import (
	"os"
	"strings"
	"testing"
)

// TestFetchedServer needs the network if the cache, which is mailtally's own, is empty.
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
}

// A failed download says why, and leaves nothing that looks like a server; what a
// killed process has left is removed.
func TestFetchWithoutNetwork(t *testing.T) {
	t.Parallel()
	cache := tempDir(t)
	writeFile(t, cache+"/postgresql-x.unfinished/dist/bin/postgres", "", 0o755)
	// In another process, because the proxy's address is read only once.
	out, err := helper(t, "fetch", cache+"/postgresql-x",
		"HTTPS_PROXY=http://127.0.0.1:1", "https_proxy=", "TMPDIR="+tempDir(t)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "unable to connect") {
		t.Errorf("error of the fetch: %s", out)
	}
	entries, err := os.ReadDir(cache)
	if err != nil || len(entries) != 1 || entries[0].Name() != "postgresql-x.lock" {
		t.Errorf("left in the cache: %v, %v", entries, err)
	}
}
