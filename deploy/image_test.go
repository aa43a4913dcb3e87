package deploy

import (
	"bytes"
	"debug/elf"
	"fmt"
	"go/version"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// The same source makes the same binary, wherever it is and whatever was built
// before.
func TestImage_IsReproducible(t *testing.T) {
	t.Parallel()
	again := filepath.Join(t.TempDir(), "another place")
	if err := buildStage(again, "GOCACHE="+t.TempDir()); err != nil {
		t.Fatal(err)
	}
	one, err := os.ReadFile(filepath.Join(theImage(t).root, "mailtally"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(again, "dist", "mailtally"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, other) {
		t.Error("two builds of the same source differ")
	}
}

// Nothing but the binary, which needs nothing else, and the authorities.
func TestImage_Contents(t *testing.T) {
	t.Parallel()
	i := theImage(t)
	var files []string
	err := filepath.WalkDir(i.root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, strings.TrimPrefix(path, i.root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/etc/ssl/certs/ca-certificates.crt", "/mailtally"}; !slices.Equal(files, want) {
		t.Errorf("the image has %v, want %v", files, want)
	}
	binary, err := elf.Open(filepath.Join(i.root, "mailtally"))
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	for _, part := range binary.Progs {
		if part.Type == elf.PT_INTERP || part.Type == elf.PT_DYNAMIC {
			t.Error("the binary wants a dynamic linker, and the image has none")
		}
	}
	content, err := os.ReadFile(filepath.Join(i.root, "mailtally"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(content, []byte(filepath.Dir(i.root))) {
		t.Error("the binary tells where it was built")
	}
}

func TestImage_Configuration(t *testing.T) {
	t.Parallel()
	i := theImage(t)
	if !slices.Equal(i.entrypoint, []string{"/mailtally"}) {
		t.Errorf("entrypoint %q", i.entrypoint)
	}
	if !regexp.MustCompile(`^[1-9]\d+$`).MatchString(i.uid) || !regexp.MustCompile(`^[1-9]\d+$`).MatchString(i.gid) {
		t.Errorf("user %q, group %q: want numbers that are not root's", i.uid, i.gid)
	}
	// As the README has them for HTTP_ADDR and ADMIN_ADDR, and docker-compose.yml for
	// whoever connects.
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	project := loadAll(t)
	producer := project.Services["producer"]
	for n, variable := range []string{"HTTP_ADDR", "ADMIN_ADDR"} {
		if !strings.Contains(string(readme), fmt.Sprintf("| `%s` | `:%s` |", variable, i.ports[n])) {
			t.Errorf("port %s is exposed, and is not the default of %s", i.ports[n], variable)
		}
		if got := fmt.Sprint(producer.Ports[n].Target); got != i.ports[n] {
			t.Errorf("port %s of the producer is published, want %s", got, i.ports[n])
		}
	}
	for _, label := range []string{"title", "description", "url", "source", "documentation", "licenses", "version", "revision"} {
		if i.labels["org.opencontainers.image."+label] == "" {
			t.Errorf("no label %s", label)
		}
	}
	if got := i.labels["org.opencontainers.image.version"] + i.labels["org.opencontainers.image.revision"]; got != "$VERSION$REVISION" {
		t.Errorf("version and revision are not the builder's: %q", got)
	}
}

// The compiler is pinned, and new enough for go.mod.
func TestImage_Base(t *testing.T) {
	t.Parallel()
	build, _, err := dockerfile()
	if err != nil {
		t.Fatal(err)
	}
	checkPinned(t, build.BaseName)
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	wanted := regexp.MustCompile(`(?m)^go (\S+)$`).FindSubmatch(mod)
	tag := regexp.MustCompile(`^golang:([0-9.]+)-`).FindStringSubmatch(build.BaseName)
	if wanted == nil || tag == nil || version.Compare("go"+tag[1], "go"+string(wanted[1])) < 0 {
		t.Errorf("built with %s, and go.mod wants %q", build.BaseName, wanted)
	}
}

// The user that the image runs as has no name, no home and no rights, and can't write
// anywhere.
func TestImage_RunsInAnEmptyRoot(t *testing.T) {
	t.Parallel()
	i := theImage(t)
	if code, printed := i.exec(t, nil, "help"); code != 0 || !strings.Contains(printed, "mailtally producer") {
		t.Errorf("help: exit code %d: %s", code, printed)
	}
	// The system's authorities are found: with TLS, and nothing else, there is none
	// to complain of.
	environ := []string{"HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "KAFKA_BROKERS=127.0.0.1:1", "KAFKA_TLS=true",
		"RESEND_WEBHOOK_SECRETS=whsec_AAAA"}
	p := i.run(t, environ, "producer")
	await(t, "the producer starts", func() error {
		p.mustRun(t)
		if printed := p.printed(); !strings.Contains(printed, `"producer started"`) {
			return fmt.Errorf("it printed %s", printed)
		}
		return nil
	})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	field := func(name string) string {
		return strings.Join(strings.Fields(regexp.MustCompile(`(?m)^` + name + `:(.*)$`).FindStringSubmatch(string(status))[1]), " ")
	}
	if field("Name") != "mailtally" || field("CapEff") != "0000000000000000" {
		t.Errorf("process %s has rights %s", field("Name"), field("CapEff"))
	}
	if uid := strings.Repeat(i.uid+" ", 4); os.Geteuid() == 0 && field("Uid")+" " != uid {
		t.Errorf("it runs as %s, want %s", field("Uid"), uid)
	}
	if os.Geteuid() != 0 {
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", p.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`(?m)^\S+ \S+ \S+ \S+ / ro[, ]`).Match(mounts) {
			t.Errorf("its root can be written:\n%s", mounts)
		}
		return
	}
	err = filepath.WalkDir(i.root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm()&0o002 != 0 || owner.Uid != 0 || owner.Gid != 0 {
			t.Errorf("%s can be written: %v, owner %d:%d", path, info.Mode(), owner.Uid, owner.Gid)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
