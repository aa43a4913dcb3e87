package deploy

import (
	"errors"
	"fmt"
	"testing"
)

// A Prometheus that scrapes `mailtally dev` sees its traffic.
func TestPrometheusScrapesDev(t *testing.T) {
	t.Parallel()
	d := startDev(t, nil)
	p := startPrometheus(t, fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
scrape_configs:
- job_name: mailtally
  static_configs: [{targets: [%q]}]
`, d.admin()))
	await(t, "events are applied", func() error {
		got, err := p.query(t, `sum(mailtally_events_applied_total)`)
		if err == nil && (len(got) != 1 || got[0].Value < 10) {
			err = errors.New(fmt.Sprint(got))
		}
		return err
	})
}
