package apachekafka

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/mailtally/mailtally/internal/bench/child"
)

//go:embed pom.xml
var pom []byte

// copyJars is the Maven goal, with the plugin's version, so that it does the
// same everywhere.
const copyJars = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

// jars returns the folder with the broker's jars.
func jars(ctx context.Context, log *slog.Logger) (string, error) {
	return Jars(ctx, "apache-kafka-"+Version, pom, log)
}

// Jars returns the folder with the jars that a pom names, which Maven fills the
// first time. It is in the user's cache, and called name and by what is in it:
// another pom is another folder.
func Jars(ctx context.Context, name string, pom []byte, log *slog.Logger) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder to keep the jars of %s in: %w", name, err)
	}
	sum := sha256.Sum256(pom)
	home := filepath.Join(cache, "mailtally", name+"-"+hex.EncodeToString(sum[:4]))
	if err := fetch(ctx, home, pom, log); err != nil {
		return "", fmt.Errorf("fetch the jars of %s into %s: %w", name, home, err)
	}
	return home, nil
}

// fetch makes the folder home, whole or not at all. Of two processes that want
// it at once the second waits for the first: Maven's own store does not take
// two of them well.
func fetch(ctx context.Context, home string, pom []byte, log *slog.Logger) error {
	if exists(home) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return err
	}
	lock := flock.New(home + ".lock")
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return fmt.Errorf("wait for another fetch to end: %w", err)
	}
	defer lock.Unlock()
	if exists(home) {
		return nil
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("%w: install Maven", err)
	}
	tmp := home + ".tmp" // under the lock it is ours, whoever left it
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	file := filepath.Join(tmp, "pom.xml")
	if err := os.WriteFile(file, pom, 0o644); err != nil {
		return err
	}
	log.InfoContext(ctx, "fetching jars from Maven Central", "to", home)
	err = child.Run(ctx, exec.Command(mvn, "-q", "-B", "-f", file, copyJars, "-DincludeScope=runtime", "-DoutputDirectory="+tmp))
	if err != nil {
		return err
	}
	return os.Rename(tmp, home)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
