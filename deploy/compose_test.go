package deploy

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"
)

const composeFile = "../docker-compose.yml"

// loadCompose reads docker-compose.yml as Docker Compose does, with the compose
// specification's own library: schema, interpolation, references, cycles. The
// environment is empty but for environ.
func loadCompose(t *testing.T, profiles []string, environ ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{composeFile}, cli.WithProfiles(profiles), cli.WithEnv(environ))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// loadAll reads it with its one profile.
func loadAll(t *testing.T) *types.Project {
	t.Helper()
	return loadCompose(t, []string{"traffic"})
}

func TestCompose_Services(t *testing.T) {
	t.Parallel()
	want := []string{"alertmanager", "consumer", "grafana", "kafka", "migrate", "postgres", "producer", "prometheus"}
	if got := slices.Sorted(maps.Keys(loadCompose(t, nil).Services)); !slices.Equal(got, want) {
		t.Errorf("services %v, want %v", got, want)
	}
	all := loadAll(t)
	if got, want := slices.Sorted(maps.Keys(all.Services)), slices.Sorted(slices.Values(append(want, "simulate"))); !slices.Equal(got, want) {
		t.Errorf("services with traffic %v, want %v", got, want)
	}
	if consumer := all.Services["consumer"]; consumer.GetScale() != 3 {
		t.Errorf("%d consumers, want 3", consumer.GetScale())
	}
}

// What the environment may change has a default, so that nothing has to be set.
func TestCompose_Defaults(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(composeFile)
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(text), "\nname:") // behind the introduction
	for _, variable := range regexp.MustCompile(`\$\{?[^}]*\}?`).FindAllString(body, -1) {
		if !regexp.MustCompile(`^\$\{[A-Z_]+:-.+\}$`).MatchString(variable) {
			t.Errorf("%s has no default", variable)
		}
	}
	changed := loadCompose(t, nil, "KAFKA_PORT=1234", "POSTGRES_PASSWORD=p@ss/word")
	if got := *changed.Services["kafka"].Environment["KAFKA_ADVERTISED_LISTENERS"]; !strings.HasSuffix(got, ":1234") {
		t.Errorf("another port of Kafka is not what it advertises: %s", got)
	}
	for _, service := range []string{"migrate", "consumer"} {
		if got := *changed.Services[service].Environment["PGPASSWORD"]; got != "p@ss/word" {
			t.Errorf("%s gets the password %q", service, got)
		}
	}
}

// pinned is a tag of one release. A digest would hold it to the very bytes; one that
// nobody can check from here is worth less than none.
var pinned = regexp.MustCompile(`^v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?$`)

func checkPinned(t *testing.T, image string) {
	t.Helper()
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		t.Fatalf("%q: %v", image, err)
	}
	if tagged, ok := ref.(reference.Tagged); !ok || !pinned.MatchString(tagged.Tag()) {
		t.Errorf("%q is not pinned to a release", image)
	}
}

// ours says that a service runs mailtally's image.
func ours(service types.ServiceConfig) bool { return service.Image == "mailtally:local" }

func TestCompose_ImagesArePinned(t *testing.T) {
	t.Parallel()
	for _, service := range loadAll(t).Services {
		if !ours(service) {
			checkPinned(t, service.Image)
		}
	}
}

// Two builds of one image at once can't both give it its name. So it is built for
// migrate alone, which the others wait for, and not looked for in a registry.
func TestCompose_ImageIsBuiltOnce(t *testing.T) {
	t.Parallel()
	services := loadAll(t).Services
	for _, name := range []string{"migrate", "producer", "consumer", "simulate"} {
		service := services[name]
		if !ours(service) {
			t.Errorf("%s runs %s", name, service.Image)
		}
		if service.PullPolicy != types.PullPolicyNever {
			t.Errorf("%s looks for its image elsewhere: pull_policy %q", name, service.PullPolicy)
		}
	}
	for name, service := range services {
		if (service.Build != nil) != (name == "migrate") {
			t.Errorf("%s has its image built: %t", name, service.Build != nil)
		}
	}
	if build := services["migrate"].Build; build != nil && !exists(filepath.Join(build.Context, build.Dockerfile)) {
		t.Errorf("there is no %s in %s", build.Dockerfile, build.Context)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Nothing can be reached from another machine, and no two services want one port.
func TestCompose_PortsAreOnLoopback(t *testing.T) {
	t.Parallel()
	taken := make(map[string]string)
	for name, service := range loadAll(t).Services {
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %d is published on %q", name, port.Target, port.HostIP)
			}
			if other := taken[port.Published]; other != "" {
				t.Errorf("%s and %s both want port %s", name, other, port.Published)
			}
			taken[port.Published] = name
			if service.GetScale() > 1 {
				t.Errorf("%s: %d containers can't share a port of the host", name, service.GetScale())
			}
		}
	}
}

// Each mounted file is there and can't be written, each volume has a name and a
// user, and what must outlive a container is in one.
func TestCompose_Mounts(t *testing.T) {
	t.Parallel()
	project := loadAll(t)
	data := map[string]string{ // where the images keep it
		"kafka": "/var/lib/kafka/data", "postgres": "/var/lib/postgresql", "prometheus": "/prometheus",
		"alertmanager": "/alertmanager", "grafana": "/var/lib/grafana",
	}
	used := make(map[string]bool)
	for name, service := range project.Services {
		kept := ""
		for _, mount := range service.Volumes {
			switch mount.Type {
			case types.VolumeTypeBind:
				if !mount.ReadOnly {
					t.Errorf("%s can write to %s", name, mount.Source)
				}
				if entries, err := os.ReadDir(mount.Source); err != nil || len(entries) == 0 {
					t.Errorf("%s: nothing to mount in %s: %v", name, mount.Source, err)
				}
			case types.VolumeTypeVolume:
				if _, declared := project.Volumes[mount.Source]; !declared {
					t.Errorf("%s: the volume at %s has no name", name, mount.Target)
				}
				used[mount.Source] = true
				kept = mount.Target
			default:
				t.Errorf("%s: a mount of type %s", name, mount.Type)
			}
		}
		if kept != data[name] {
			t.Errorf("%s keeps %q in a volume, want %q", name, kept, data[name])
		}
	}
	for name := range project.Volumes {
		if !used[name] {
			t.Errorf("nobody uses the volume %s", name)
		}
	}
}

// A part starts when those it names in its command or its environment are of use:
// healthy, and, where it needs schema and topics, migrated.
func TestCompose_StartOrder(t *testing.T) {
	t.Parallel()
	project := loadAll(t)
	// after says that service waits for other, itself or through another.
	var after func(service, other string) bool
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
			switch {
			case wait.Condition == types.ServiceConditionHealthy && target.HealthCheck != nil:
			case wait.Condition == types.ServiceConditionCompletedSuccessfully && target.Restart == "no":
			default:
				t.Errorf("%s waits for %s to be %s, which it can't tell or is not enough", name, dependency, wait.Condition)
			}
		}
		said := strings.Join(service.Command, " ")
		for _, value := range service.Environment {
			said += " " + *value
		}
		for other := range project.Services {
			names := regexp.MustCompile(`(//|@|\b)` + other + `:\d+`).MatchString(said)
			if names && other != name && !after(name, other) {
				t.Errorf("%s uses %s, and does not wait for it", name, other)
			}
		}
	}
	for _, role := range []string{"producer", "consumer", "simulate"} {
		if !after(role, "migrate") {
			t.Errorf("%s does not wait for migrate", role)
		}
	}
	if !after("grafana", "prometheus") || !after("simulate", "producer") {
		t.Error("grafana waits for prometheus, and simulate for a producer")
	}
}

// A container can't do what its program need not do.
func TestCompose_Confinement(t *testing.T) {
	t.Parallel()
	for name, service := range loadAll(t).Services {
		if service.Privileged || len(service.CapAdd) > 0 || service.NetworkMode == "host" || service.Pid != "" {
			t.Errorf("%s may do more than others", name)
		}
		if !slices.Equal(service.CapDrop, []string{"ALL"}) || !slices.Equal(service.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s keeps capabilities %v, security %v", name, service.CapDrop, service.SecurityOpt)
		}
		// Kafka's image writes its configuration to its own folder.
		if !service.ReadOnly && name != "kafka" {
			t.Errorf("%s can write to its root file system", name)
		}
		if service.MemLimit <= 0 {
			t.Errorf("%s has no limit of memory", name)
		}
		// The other images name a user themselves.
		if name == "postgres" && service.User != "postgres" {
			t.Errorf("%s starts as %q", name, service.User)
		}
	}
}

// What runs for long comes back, says how it is, and gets the time that it needs to
// end.
func TestCompose_Lifetimes(t *testing.T) {
	t.Parallel()
	for name, service := range loadAll(t).Services {
		restart, health := "unless-stopped", true
		switch name {
		case "migrate":
			restart, health = "no", false
		case "simulate": // serves nothing that could be asked
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
		// README: both roles end within 20 s.
		if ours(service) && (service.StopGracePeriod == nil || time.Duration(*service.StopGracePeriod) < 20*time.Second) {
			t.Errorf("%s is killed after %v", name, service.StopGracePeriod)
		}
	}
}

// What mailtally is given, it knows: a misspelt variable would be ignored.
func TestCompose_Environment(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"PGPASSWORD"} // pgx's own
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|").FindAllStringSubmatch(string(readme), -1) {
		known = append(known, row[1])
	}
	for name, service := range loadAll(t).Services {
		for variable := range service.Environment {
			if ours(service) && !slices.Contains(known, variable) {
				t.Errorf("%s: mailtally knows no %s", name, variable)
			}
		}
	}
}

// Grafana finds its home dashboard, and keeps the plugin that asks Prometheus.
func TestCompose_Grafana(t *testing.T) {
	t.Parallel()
	grafana := loadAll(t).Services["grafana"]
	home := *grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	if folder := mountedAt(grafana, filepath.Dir(home)); folder == "" || !exists(filepath.Join(folder, filepath.Base(home))) {
		t.Errorf("the home dashboard %s is not mounted", home)
	}
	if disabled := grafana.Environment["GF_PLUGINS_PREINSTALL_DISABLED"]; grafana.ReadOnly && (disabled == nil || *disabled != "true") {
		t.Error("Grafana replaces its bundled plugins, which fails on a read-only root")
	}
}

// mountedAt is the folder that a service has at a path, if it has one there.
func mountedAt(service types.ServiceConfig, path string) string {
	for _, mount := range service.Volumes {
		if mount.Target == path {
			return mount.Source
		}
	}
	return ""
}
