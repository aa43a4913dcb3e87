package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailtally/mailtally/internal/faults"
	"github.com/mailtally/mailtally/internal/testpg"
)

// notification is what Alertmanager sends about an alert.
type notification struct {
	Status              string // firing or resolved
	Labels, Annotations map[string]string
}

// startAlertmanager runs Debian's Alertmanager with one receiver, and returns its
// address and what the receiver gets.
func startAlertmanager(t *testing.T) (addr string, received <-chan notification) {
	t.Helper()
	notifications := make(chan notification, 1000)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var message struct{ Alerts []notification }
		if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
			t.Errorf("a notification: %v", err)
		}
		for _, n := range message.Alerts {
			notifications <- n
		}
	}))
	t.Cleanup(receiver.Close)

	config := filepath.Join(t.TempDir(), "alertmanager.yml")
	text := fmt.Sprintf(`
route: {receiver: test, group_by: [alertname, group], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h}
receivers:
- name: test
  webhook_configs: [{url: %q, send_resolved: true}]
`, receiver.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return runAlertmanager(t, config), notifications
}

// runAlertmanager runs Debian's Alertmanager with that configuration, and returns its
// address.
func runAlertmanager(t *testing.T, config string) string {
	t.Helper()
	addr := freeAddr(t)
	p := start(t, nil, program(t, "prometheus-alertmanager", "prometheus-alertmanager"),
		"--config.file="+config, "--storage.path="+t.TempDir(), "--web.listen-address="+addr, "--cluster.listen-address=")
	await(t, "Alertmanager starts", func() error {
		p.mustRun(t)
		_, err := get(t.Context(), "http://"+addr+"/-/ready")
		return err
	})
	return addr
}

// End to end: a fault of a running system is found by the shipped rules in a real
// Prometheus, and a real Alertmanager notifies somebody, and again when the fault is
// over. In the rules time passes 12 times as fast: a minute is five seconds.
func TestDatabaseAwayIsTold(t *testing.T) {
	t.Parallel()
	database, err := url.Parse(testpg.Server(t, nil).URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	proxy := faults.NewProxy(t, database.Host)
	database.Host = proxy.Addr()
	d := startDev(t, []string{"DATABASE_URL=" + database.String()})
	alertmanager, received := startAlertmanager(t)
	const faster = 12
	p := startPrometheus(t, fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 500ms}
rule_files: [%q, %q]
alerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}
scrape_configs:
- job_name: mailtally-consumer
  static_configs: [{targets: [%q], labels: {group: mailtally}}]
`, scaled(t, rulesFile, faster), scaled(t, alertsFile, faster), alertmanager, d.admin()))

	await(t, "events are applied, and seen by the rules", func() error {
		got, err := p.query(t, `sum(rate(mailtally_events_applied_total[10s])) > 0 and on () group:mailtally_events_unreconciled:sum`)
		if err == nil && len(got) == 0 {
			err = errors.New("not yet")
		}
		return err
	})
	if firing, err := p.query(t, `ALERTS{alertname="MailtallyDatabaseAway"}`); err != nil || len(firing) > 0 {
		t.Errorf("before the fault: %v, %v; want no alert", firing, err)
	}

	proxy.Away(true)
	told := next(t, received, "MailtallyDatabaseAway", "firing")
	if told.Labels["severity"] != "critical" || told.Labels["group"] != "mailtally" {
		t.Errorf("labels %v, want a critical alert of the group", told.Labels)
	}
	for name, want := range map[string]string{
		"summary":     "Group mailtally: 1 consumer cannot write to PostgreSQL",
		"description": "Nothing is lost as long as Kafka keeps the records.",
		"runbook_url": runbook + "#mailtallydatabaseaway",
	} {
		if got := told.Annotations[name]; !strings.HasSuffix(got, want) {
			t.Errorf("%s %q, want it to end with %q", name, got, want)
		}
	}

	proxy.Away(false)
	next(t, received, "MailtallyDatabaseAway", "resolved")
}

// next waits for a notification of that alert, which must have that status. Others that
// fire during a fault, such as late events, may come first.
func next(t *testing.T, received <-chan notification, alert, status string) notification {
	t.Helper()
	timeout := time.NewTimer(2 * patience)
	defer timeout.Stop()
	for {
		select {
		case n := <-received:
			if n.Labels["alertname"] != alert {
				continue
			}
			if n.Status != status {
				t.Fatalf("%s is %s, want it %s", alert, n.Status, status)
			}
			return n
		case <-timeout.C:
			t.Fatalf("no notification that %s is %s", alert, status)
		}
	}
}
