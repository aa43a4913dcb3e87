package apachekafka

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/mailtally/mailtally/internal/bench/child"
)

//go:embed pom.xml
var pom []byte

// jars returns the folder with the broker's jars, which Maven fills the first time. It
// is in the user's cache, and named after its content: another pom is another folder.
// It exists completely or not at all.
func jars(ctx context.Context, log *slog.Logger) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder to keep the jars in: %w", err)
	}
	sum := sha256.Sum256(pom)
	home := filepath.Join(cache, "mailtally", "apache-kafka-"+Version+"-"+hex.EncodeToString(sum[:4]))
	if _, err := os.Stat(home); err == nil {
		return home, nil
	}
	if err := fetch(ctx, home, log); err != nil {
		return "", fmt.Errorf("fetch the jars into %s: %w", home, err)
	}
	return home, nil
}

// fetch makes the folder home.
func fetch(ctx context.Context, home string, log *slog.Logger) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("%w: install Maven", err)
	}
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(home), "fetching-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	file := filepath.Join(tmp, "pom.xml")
	if err := os.WriteFile(file, pom, 0o644); err != nil {
		return err
	}
	log.InfoContext(ctx, "fetching jars from Maven Central", "to", home)
	const goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
	if err := child.Run(ctx, exec.Command(mvn, "-q", "-B", "-f", file, goal, "-DincludeScope=runtime", "-DoutputDirectory="+tmp)); err != nil {
		return err
	}
	if err := os.Rename(tmp, home); err != nil && !os.IsExist(err) { // another process's are as good
		return err
	}
	return nil
}
