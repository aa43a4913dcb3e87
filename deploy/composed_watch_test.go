package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/jackc/pgx/v5"
	"go.yaml.in/yaml/v3"

	"github.com/mailtally/mailtally/internal/bench/child"
	"github.com/mailtally/mailtally/internal/localpg"
)

// watchers are the services prometheus and alertmanager, of Debian's versions.
type watchers struct {
	project                  *types.Project
	prometheus, alertmanager watcher
}

// watcher is a running container of one of them.
type watcher struct {
	*process
	service types.ServiceConfig
	addr    string
}

// mounted lays a service's mounted folders out as its container has them, in a
// folder of the test's, and gives the service's command with the paths in it.
func mounted(t *testing.T, service types.ServiceConfig) (root string, command []string) {
	t.Helper()
	root = t.TempDir()
	var paths []string
	for _, mount := range service.Volumes {
		to := filepath.Join(root, mount.Target)
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		if mount.Type == types.VolumeTypeBind {
			if err := copyTree(mount.Source, to); err != nil {
				t.Fatal(err)
			}
		}
		paths = append(paths, "="+mount.Target, "="+to)
	}
	for _, word := range service.Command {
		command = append(command, strings.NewReplacer(paths...).Replace(word))
	}
	return root, command
}

// health runs the service's health check, whose programs Debian has too.
func (w watcher) health(t *testing.T) error {
	t.Helper()
	test := w.service.HealthCheck.Test
	if test[0] != "CMD" {
		t.Fatalf("health check %q", test)
	}
	line := slices.Clone(test[2:])
	for i, word := range line {
		line[i] = strings.NewReplacer("127.0.0.1:9090", w.addr, "127.0.0.1:9093", w.addr).Replace(word)
	}
	debian := map[string]string{"promtool": "prometheus", "amtool": "prometheus-alertmanager"}[test[1]]
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return child.Run(ctx, exec.Command(program(t, test[1], debian), line...))
}

// startWatchers checks and runs both with what docker-compose.yml mounts, and with
// other addresses: the targets are the shipped ones, found in the shipped way.
func startWatchers(t *testing.T, project *types.Project, producer string, consumers []string) *watchers {
	t.Helper()
	w := &watchers{project: project}
	run := func(service types.ServiceConfig, prog, check string, args []string, file string, rewrite func(file string)) watcher {
		root, command := mounted(t, service)
		file = filepath.Join(root, file)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := child.Run(ctx, exec.Command(program(t, check, prog), append(args, file)...)); err != nil {
			t.Fatal(err)
		}
		rewrite(file)
		running := watcher{service: service, addr: freeAddr(t)}
		running.process = start(t, nil, program(t, prog, prog), append(command, "--web.listen-address="+running.addr)...)
		await(t, prog+" is healthy", func() error { return running.health(t) })
		return running
	}
	w.alertmanager = run(project.Services["alertmanager"], "prometheus-alertmanager", "amtool", []string{"check-config"},
		"etc/alertmanager/alertmanager.yml", func(string) {})
	w.prometheus = run(project.Services["prometheus"], "prometheus", "promtool", []string{"check", "config"},
		"etc/prometheus/prometheus.yml", func(file string) {
			moveTargets(t, file, map[string][]string{
				"producer:8081": {producer}, "consumer:8081": consumers, "alertmanager:9093": {w.alertmanager.addr},
			})
		})
	return w
}

// moveTargets gives the services other addresses in a configuration of Prometheus.
// A DNS look-up becomes a list of the addresses that Docker's DNS would answer.
func moveTargets(t *testing.T, file string, addrs map[string][]string) {
	t.Helper()
	var config map[string]any
	readYAML(t, file, &config)
	moved := make(map[string]bool)
	move := func(to string) []string {
		if addrs[to] == nil {
			t.Errorf("%s: there is no service at %s", file, to)
		}
		moved[to] = true
		return addrs[to]
	}
	finders := config["scrape_configs"].([]any)
	finders = append(finders, config["alerting"].(map[string]any)["alertmanagers"].([]any)...)
	for _, finder := range finders {
		job := finder.(map[string]any)
		var targets []string
		for _, static := range list(job["static_configs"]) {
			for _, target := range static["targets"].([]any) {
				targets = append(targets, move(target.(string))...)
			}
		}
		for _, dns := range list(job["dns_sd_configs"]) {
			for _, name := range dns["names"].([]any) {
				targets = append(targets, move(fmt.Sprintf("%s:%v", name, dns["port"]))...)
			}
		}
		delete(job, "dns_sd_configs")
		job["static_configs"] = []any{map[string]any{"targets": targets}}
	}
	if len(moved) != len(addrs) {
		t.Errorf("%s reaches %v, want all of %v", file, moved, addrs)
	}
	config["global"] = map[string]any{"scrape_interval": "1s", "evaluation_interval": "1s"}
	text, err := yaml.Marshal(config)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func list(of any) (maps []map[string]any) {
	items, _ := of.([]any)
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			maps = append(maps, m)
		}
	}
	return maps
}

// see waits until Prometheus says of the members' events what PostgreSQL has, with
// the labels that dashboards and rules go by.
func (w *watchers) see(t *testing.T, pg *localpg.Server, consumers int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL(pg, w.project.Services["postgres"]))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	p := &prometheus{process: w.prometheus.process, addr: w.prometheus.addr}
	one := func(expression string) (float64, error) {
		got, err := p.query(t, expression)
		if err == nil && len(got) != 1 {
			err = fmt.Errorf("%s: %v", expression, got)
		}
		if err != nil {
			return 0, err
		}
		return got[0].Value, nil
	}
	await(t, "all events are applied, and Prometheus knows", func() error {
		var rows float64
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM mailtally.email_event").Scan(&rows); err != nil {
			return err
		}
		applied, err := one(`sum by (group) (mailtally_events_applied_total{job="mailtally-consumer",group="mailtally"})`)
		if err == nil && (applied != rows || rows < 1000) {
			err = fmt.Errorf("%v rows, and Prometheus has %v applied", rows, applied)
		}
		return err
	})
	for expression, want := range map[string]float64{
		`count(up{job="mailtally-consumer",group="mailtally"} == 1)`: float64(consumers),
		`count(up{job="mailtally-producer"} == 1)`:                   1,
		// The members share the work.
		`count(sum by (instance) (mailtally_events_consumed_total{job="mailtally-consumer"}) > 0)`: float64(consumers),
		// The rules are loaded, and none of them fails.
		`group:mailtally_events_unreconciled:sum{group="mailtally"}`: 0,
	} {
		await(t, expression, func() error {
			got, err := one(expression)
			if err == nil && got != want {
				err = fmt.Errorf("%v, want %v", got, want)
			}
			return err
		})
	}
	await(t, "Prometheus knows its Alertmanager", func() error {
		body, err := get(t.Context(), "http://"+p.addr+"/api/v1/alertmanagers")
		if err != nil {
			return err
		}
		var answer struct {
			Data struct{ ActiveAlertmanagers []struct{ URL string } }
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return err
		}
		if active := answer.Data.ActiveAlertmanagers; len(active) != 1 || !strings.Contains(active[0].URL, w.alertmanager.addr) {
			return fmt.Errorf("%s", body)
		}
		return nil
	})
}
