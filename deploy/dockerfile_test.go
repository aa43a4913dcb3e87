package deploy

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// What a container engine would do with deploy/Dockerfile.

// dockerfile reads it as BuildKit does: the stage that builds, and the one that is
// left.
func dockerfile() (build, final instructions.Stage, err error) {
	file, err := os.Open("Dockerfile")
	if err != nil {
		return build, final, err
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		return build, final, err
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err == nil && len(stages) != 2 {
		err = fmt.Errorf("%d stages, want one that builds and one that is left", len(stages))
	}
	if err != nil {
		return build, final, err
	}
	return stages[0], stages[1], nil
}

// buildContext copies what .dockerignore lets through, which is all that a builder
// gets to see.
func buildContext(to string) error {
	file, err := os.Open("../.dockerignore")
	if err != nil {
		return err
	}
	defer file.Close()
	patterns, err := ignorefile.ReadAll(file)
	if err != nil {
		return err
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		return err
	}
	return fs.WalkDir(os.DirFS(".."), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		skip, err := ignored.MatchesOrParentMatches(name)
		if err != nil || skip || entry.IsDir() {
			return err
		}
		return copyInto(filepath.Join("..", name), filepath.Join(to, name))
	})
}

// copyInto copies a file, and makes the folders above it.
func copyInto(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, info.Mode().Perm())
}

// buildStage does what the first stage says, with src and a new folder beside it
// instead of its WORKDIR and the context: the same commands, on the same files.
// environ is added to the commands' own.
func buildStage(src string, environ ...string) error {
	stage, _, err := dockerfile()
	if err != nil {
		return err
	}
	context, err := os.MkdirTemp(filepath.Dir(src), "context-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(context)
	if err := buildContext(context); err != nil {
		return err
	}
	if err := os.Mkdir(src, 0o755); err != nil {
		return err
	}
	// As in Go's image, and from the builder.
	environ = slices.Concat(os.Environ(), []string{"GOFLAGS=", "GOWORK=", "GOTOOLCHAIN=local",
		"TARGETOS=" + runtime.GOOS, "TARGETARCH=" + runtime.GOARCH}, environ)
	for _, command := range stage.Commands {
		switch c := command.(type) {
		case *instructions.WorkdirCommand, *instructions.ArgCommand:
		case *instructions.CopyCommand:
			for _, source := range c.SourcePaths {
				if source == "." {
					err = copyTree(context, filepath.Join(src, c.DestPath))
				} else {
					err = copyInto(filepath.Join(context, source), filepath.Join(src, c.DestPath, source))
				}
				if err != nil {
					return err
				}
			}
		case *instructions.RunCommand:
			shell := exec.Command("/bin/sh", "-c", strings.Join(c.CmdLine, " "))
			shell.Dir, shell.Env = src, environ
			if out, err := shell.CombinedOutput(); err != nil {
				return fmt.Errorf("RUN %s: %w\n%s", c.CmdLine, err, out)
			}
		default:
			return fmt.Errorf("%s is not known here", command.Name())
		}
	}
	return nil
}

// copyTree copies a folder into another, over what is there.
func copyTree(from, to string) error {
	return fs.WalkDir(os.DirFS(from), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return copyInto(filepath.Join(from, name), filepath.Join(to, name))
	})
}

// containerImage is what the Dockerfile makes: a folder that becomes a container's root, and
// what runs in it as whom.
type containerImage struct {
	root       string
	entrypoint []string
	uid, gid   string
	labels     map[string]string
	ports      []string
}

// makeImage builds it in dir.
func makeImage(dir string) (*containerImage, error) {
	build, final, err := dockerfile()
	if err != nil {
		return nil, err
	}
	src := filepath.Join(dir, "src")
	if err := buildStage(src); err != nil {
		return nil, err
	}
	if final.BaseName != "scratch" {
		return nil, fmt.Errorf("the image starts from %s, not from nothing", final.BaseName)
	}
	i := &containerImage{root: filepath.Join(dir, "root"), labels: make(map[string]string)}
	for _, command := range final.Commands {
		switch c := command.(type) {
		case *instructions.ArgCommand:
		case *instructions.CopyCommand:
			// From the work folder of the stage, or else from Go's image, which has the
			// authorities where this machine has them.
			from := c.SourcePaths[0]
			if inWorkdir, ok := strings.CutPrefix(from, workdir(build)+"/"); ok {
				from = filepath.Join(src, inWorkdir)
			}
			if err := copyInto(from, filepath.Join(i.root, c.DestPath)); err != nil {
				return nil, err
			}
		case *instructions.UserCommand:
			i.uid, i.gid, _ = strings.Cut(c.User, ":")
		case *instructions.EntrypointCommand:
			if c.PrependShell {
				return nil, fmt.Errorf("the image has no shell for %q", c.CmdLine)
			}
			i.entrypoint = c.CmdLine
		case *instructions.ExposeCommand:
			i.ports = append(i.ports, c.Ports...)
		case *instructions.LabelCommand:
			for _, label := range c.Labels {
				i.labels[label.Key] = strings.Trim(label.Value, `"`)
			}
		default:
			return nil, fmt.Errorf("%s is not known here", command.Name())
		}
	}
	return i, nil
}

func workdir(stage instructions.Stage) string {
	for _, command := range stage.Commands {
		if c, ok := command.(*instructions.WorkdirCommand); ok {
			return c.Path
		}
	}
	return "/"
}
