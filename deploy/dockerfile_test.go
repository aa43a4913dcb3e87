package deploy

import (
	"go/version"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// The Dockerfile as BuildKit reads it, without warnings from its linter. The public
// workflow runs BuildKit's full check, and builds and runs the image.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	file, err := os.Open("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, warning := range parsed.Warnings {
		t.Error(warning.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) { t.Errorf("%s: %s", rule, message) }})
	stages, _, err := instructions.Parse(parsed.AST, lint)
	if err != nil {
		t.Fatal(err)
	}
	if len(stages) != 2 {
		t.Fatalf("%d stages, want a build stage and a final one", len(stages))
	}
	build, image := stages[0], stages[1]

	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	wanted := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(string(mod))
	compiler := regexp.MustCompile(`^golang:([0-9.]+)-`).FindStringSubmatch(build.BaseName)
	if !pinned.MatchString(build.BaseName) || compiler == nil || version.Compare("go"+compiler[1], "go"+wanted[1]) < 0 {
		t.Errorf("built with %s: want a release, and go.mod's %s at least", build.BaseName, wanted[1])
	}
	// A static binary, the same wherever it is built.
	runs := commands[*instructions.RunCommand](build)
	compile := strings.Join(runs[len(runs)-1].CmdLine, " ")
	for _, word := range []string{"CGO_ENABLED=0", "-trimpath", "-buildvcs=false", "main.release=$VERSION\"", "./cmd/mailtally"} {
		if !slices.Contains(strings.Fields(compile), word) {
			t.Errorf("%q lacks %s", compile, word)
		}
	}

	if image.BaseName != "scratch" {
		t.Errorf("the image starts from %s, not from scratch", image.BaseName)
	}
	if user := commands[*instructions.UserCommand](image); len(user) != 1 || !regexp.MustCompile(`^[1-9]\d+:[1-9]\d+$`).MatchString(user[0].User) {
		t.Errorf("it runs as %v: want numeric ids other than root's", user)
	}
	if entry := commands[*instructions.EntrypointCommand](image); len(entry) != 1 || entry[0].PrependShell || !slices.Equal(entry[0].CmdLine, []string{"/mailtally"}) {
		t.Errorf("its entrypoint is %v", entry)
	}
	var ports []string
	for _, expose := range commands[*instructions.ExposeCommand](image) {
		ports = append(ports, expose.Ports...)
	}
	if want := []string{"8080", "8081"}; !slices.Equal(ports, want) {
		t.Errorf("it exposes %q, want those of HTTP_ADDR and ADMIN_ADDR, %q", ports, want)
	}
	labels := make(map[string]string)
	for _, label := range commands[*instructions.LabelCommand](image)[0].Labels {
		labels[strings.TrimPrefix(label.Key, "org.opencontainers.image.")] = strings.Trim(label.Value, `"`)
	}
	if labels["source"] == "" || labels["licenses"] != "Apache-2.0" || labels["version"] != "$VERSION" || labels["revision"] != "$REVISION" {
		t.Errorf("its labels are %q", labels)
	}
}

// commands gives a stage's instructions of one kind.
func commands[T instructions.Command](stage instructions.Stage) (list []T) {
	for _, command := range stage.Commands {
		if c, ok := command.(T); ok {
			list = append(list, c)
		}
	}
	return list
}
