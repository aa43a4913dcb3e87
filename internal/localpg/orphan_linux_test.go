package localpg

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestKilledParentLeavesNoServer(t *testing.T) {
	t.Parallel()
	dir := tempDir(t) + "/made/by/start"

	// Descriptor 4 is not used by anyone, and so is inherited by the helper, the server
	// and all of its children: its end of file shows that all are gone.
	alive, inherited, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	cmd := helper(t, "server", dir)
	cmd.ExtraFiles = []*os.File{os.Stdin, inherited} // 3 and 4
	stdin, err := cmd.StdinPipe()                    // or the helper would end at once
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	inherited.Close()
	url := readLine(t, stdout)

	// A client that stays connected does not keep the server running.
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 42 AS n"); err != nil {
		t.Fatal(err)
	}

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := alive.SetReadDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(alive); err != nil {
		t.Errorf("a process of the server is left: %v", err)
	}
	_ = cmd.Wait()                             // "signal: killed"
	wantMissing(t, dir+"/data/postmaster.pid") // it was a shutdown, not a crash

	s := start(t, Options{Dir: dir})
	if got := query(t, s.URL("postgres"), "SELECT n FROM kept"); got != "42" {
		t.Errorf("kept data = %q, want 42", got)
	}
}
