package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const composeFile = "../docker-compose.yml"

// loadCompose reads docker-compose.yml as Docker Compose does, with the compose
// specification's own library: schema, interpolation, references, cycles. The
// environment is empty except for environ. The public workflow starts it for real.
func loadCompose(t *testing.T, environ ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{composeFile}, cli.WithProfiles([]string{"traffic"}), cli.WithEnv(environ))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// ours tells whether a service runs mailtally's image.
func ours(service types.ServiceConfig) bool { return service.Image == "mailtally:local" }

// pinned is an image with the tag of one release. A digest would pin the exact bytes,
// but nobody could check it here, so it would be worth less than none.
var pinned = regexp.MustCompile(`^[a-z0-9/-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?$`)

// Images are pinned to tested releases, and ours is built only once: two concurrent
// builds of one image cannot both give it its name.
func TestCompose_Images(t *testing.T) {
	t.Parallel()
	for name, service := range loadCompose(t).Services {
		if !ours(service) && !pinned.MatchString(service.Image) {
			t.Errorf("%s: %q is not pinned to a release", name, service.Image)
		}
		if ours(service) && service.PullPolicy != types.PullPolicyNever {
			t.Errorf("%s looks for its image elsewhere: pull_policy %q", name, service.PullPolicy)
		}
		if builds := service.Build != nil; builds != (name == "migrate") {
			t.Errorf("%s has its image built: %t", name, builds)
		} else if builds && !exists(filepath.Join(service.Build.Context, service.Build.Dockerfile)) {
			t.Errorf("there is no %s in %s", service.Build.Dockerfile, service.Build.Context)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Nothing can be reached from another machine, and no two containers publish the same
// port.
func TestCompose_PortsAreOnLoopback(t *testing.T) {
	t.Parallel()
	taken := make(map[string]string)
	for name, service := range loadCompose(t).Services {
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %d is published on %q", name, port.Target, port.HostIP)
			}
			if other := taken[port.Published]; other != "" || service.GetScale() > 1 {
				t.Errorf("%s, of which there are %d, wants port %s, as does %q", name, service.GetScale(), port.Published, other)
			}
			taken[port.Published] = name
		}
	}
}

// A service starts only once those that its command or environment names are usable:
// healthy and, if it needs schema and topics, migrated.
func TestCompose_StartOrder(t *testing.T) {
	t.Parallel()
	project := loadCompose(t)
	var after func(service, other string) bool // waits for it, itself or through another
	after = func(service, other string) bool {
		for dependency := range project.Services[service].DependsOn {
			if dependency == other || after(dependency, other) {
				return true
			}
		}
		return false
	}
	for name, service := range project.Services {
		for dependency, wait := range service.DependsOn {
			target := project.Services[dependency]
			if healthy := wait.Condition == types.ServiceConditionHealthy && target.HealthCheck != nil; !healthy &&
				(wait.Condition != types.ServiceConditionCompletedSuccessfully || target.Restart != "no") {
				t.Errorf("%s waits for %s to be %s, which that service cannot report or is not enough", name, dependency, wait.Condition)
			}
		}
		said := strings.Join(service.Command, " ")
		for _, value := range service.Environment {
			said += " " + *value
		}
		for other := range project.Services {
			if other != name && regexp.MustCompile(`\b`+other+`:\d+`).MatchString(said) && !after(name, other) {
				t.Errorf("%s uses %s, but does not wait for it", name, other)
			}
		}
	}
	for _, pair := range [][2]string{{"producer", "migrate"}, {"consumer", "migrate"}, {"simulate", "producer"}, {"grafana", "prometheus"}} {
		if !after(pair[0], pair[1]) {
			t.Errorf("%s does not wait for %s", pair[0], pair[1])
		}
	}
}

// Long-running services restart, have a health check, and get the time that they need
// to stop.
func TestCompose_Lifetimes(t *testing.T) {
	t.Parallel()
	for name, service := range loadCompose(t).Services {
		restart, health := "unless-stopped", true
		switch name {
		case "migrate":
			restart, health = "no", false
		case "simulate": // has no port to check
			health = false
		}
		if service.Restart != restart {
			t.Errorf("%s: restart %q, want %q", name, service.Restart, restart)
		}
		check := service.HealthCheck
		if (check != nil) != health {
			t.Errorf("%s: has a health check: %t", name, check != nil)
		}
		if check != nil && (check.Timeout == nil || check.Interval == nil || *check.Timeout >= *check.Interval || check.StartPeriod == nil || check.StartInterval == nil) {
			t.Errorf("%s: health check %+v", name, check)
		}
		// Both roles end within 20 s, a producer SHUTDOWN_DELAY later.
		if ours(service) && (service.StopGracePeriod == nil || time.Duration(*service.StopGracePeriod) < 25*time.Second) {
			t.Errorf("%s is killed after %v", name, service.StopGracePeriod)
		}
	}
}

// A container can do no more than its program needs, and what is mounted into it
// exists.
func TestCompose_Confinement(t *testing.T) {
	t.Parallel()
	for name, service := range loadCompose(t).Services {
		if service.Privileged || len(service.CapAdd) > 0 || !slices.Equal(service.CapDrop, []string{"ALL"}) ||
			!slices.Equal(service.SecurityOpt, []string{"no-new-privileges:true"}) || service.NetworkMode == "host" {
			t.Errorf("%s keeps capabilities %v and %v, security %v", name, service.CapAdd, service.CapDrop, service.SecurityOpt)
		}
		// Kafka's image writes its configuration to its own folder.
		if !service.ReadOnly && name != "kafka" {
			t.Errorf("%s can write to its root file system", name)
		}
		if service.MemLimit <= 0 {
			t.Errorf("%s has no limit of memory", name)
		}
		for _, mount := range service.Volumes {
			if mount.Type != types.VolumeTypeBind {
				continue
			}
			if entries, err := os.ReadDir(mount.Source); err != nil || len(entries) == 0 || !mount.ReadOnly {
				t.Errorf("%s: %s holds %d files (%v), and is mounted read-only: %t", name, mount.Source, len(entries), err, mount.ReadOnly)
			}
		}
	}
}

// mailtally knows every variable that it is given: a misspelt one would be ignored.
// Variables that the environment may override have a default, so nothing has to be set.
func TestCompose_Environment(t *testing.T) {
	t.Parallel()
	known := append(variables(t), "PGPASSWORD") // read by pgx
	for name, service := range loadCompose(t).Services {
		for variable := range service.Environment {
			if ours(service) && !slices.Contains(known, variable) {
				t.Errorf("%s: mailtally knows no %s", name, variable)
			}
		}
	}
	text, err := os.ReadFile(composeFile)
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(text), "\nname:") // after the introduction
	for _, variable := range regexp.MustCompile(`\$\{?[^}]*\}?`).FindAllString(body, -1) {
		if !regexp.MustCompile(`^\$\{[A-Z_]+:-.*\}$`).MatchString(variable) {
			t.Errorf("%s has no default", variable)
		}
	}
	changed := loadCompose(t, "KAFKA_PORT=1234", "POSTGRES_PASSWORD=p@ss/word", "POSTMARK_WEBHOOK_CREDENTIALS=me:secret").Services
	if got := *changed["producer"].Environment["POSTMARK_WEBHOOK_CREDENTIALS"]; got != "me:secret" {
		t.Errorf("the producer gets Postmark's credentials as %q", got)
	}
	if got := *changed["kafka"].Environment["KAFKA_ADVERTISED_LISTENERS"]; !strings.HasSuffix(got, ":1234") {
		t.Errorf("another port of Kafka is not what it advertises: %s", got)
	}
	for _, service := range []string{"migrate", "consumer"} {
		if got := *changed[service].Environment["PGPASSWORD"]; got != "p@ss/word" {
			t.Errorf("%s gets the password %q", service, got)
		}
	}
}

// variables are those that mailtally's configuration reads.
func variables(t *testing.T) (names []string) {
	t.Helper()
	source, err := os.ReadFile("../cmd/mailtally/config.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range regexp.MustCompile("`env:\"([A-Z_]+)\"").FindAllStringSubmatch(string(source), -1) {
		names = append(names, tag[1])
	}
	if len(names) == 0 {
		t.Fatal("config.go names no variables")
	}
	return names
}

// mountedAt is the folder mounted at a path of a service, if any.
func mountedAt(service types.ServiceConfig, path string) string {
	for _, mount := range service.Volumes {
		if mount.Target == path {
			return mount.Source
		}
	}
	return ""
}
