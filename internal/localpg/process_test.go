package localpg

import (
	"os"
	"os/exec"
	"testing"
)

// Done means that no process is left, and a child may outlive the first.
func TestProcessEndsWithItsLastChild(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	last := tempDir(t) + "/last"
	// The child begins its work when the first process, with which the writing
	// end of the pipe goes, has ended.
	cmd := exec.Command("sh", "-c", `(exec 4>&-; cat <&3; touch "$0") & exit 3`, last)
	cmd.ExtraFiles = []*os.File{r, w} // 3 and 4
	p, err := startProcess(cmd)
	r.Close()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	if _, err := os.Stat(last); err != nil {
		t.Errorf("done before the child was: %v", err)
	}
	wantError(t, p.exit(), "exit status 3")
}

func TestProcessThatCannotStart(t *testing.T) {
	t.Parallel()
	_, err := startProcess(exec.Command(tempDir(t) + "/missing"))
	wantError(t, err, "no such file")
}
