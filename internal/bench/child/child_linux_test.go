package child

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// helperEnv makes the test binary start a child that waits forever, and wait too.
const helperEnv = "CHILD_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) == "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("sh", "-c", "read forever")
	cmd.Stdin, cmd.ExtraFiles = os.Stdin, []*os.File{os.NewFile(3, "inherited")}
	if _, err := Start(cmd); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("started")
	io.Copy(io.Discard, os.NewFile(4, "never closed"))
}

// End of file on a pipe that both inherit shows that both are gone.
func TestKilledParentLeavesNoChild(t *testing.T) {
	alive, inherited, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	wait, open, err := os.Pipe() // stdin, and what the helper waits for
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"=1")
	cmd.Stdin, cmd.ExtraFiles = wait, []*os.File{inherited, wait}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	inherited.Close()
	var said string
	if _, err := fmt.Fscanln(stdout, &said); err != nil || said != "started" {
		t.Fatalf("the helper said %q (%v)", said, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := alive.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(alive); err != nil {
		t.Errorf("the child is left: %v", err)
	}
	_ = cmd.Wait() // "signal: killed"
}
