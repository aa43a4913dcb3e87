package deploy

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
)

// prometheus is a running Prometheus.
type prometheus struct {
	*process
	addr string
}

// startPrometheus runs Debian's Prometheus with that configuration, whose paths must be
// absolute, and returns when it is ready.
func startPrometheus(t *testing.T, config string) *prometheus {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "test.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{addr: freeAddr(t)}
	p.process = start(t, nil, program(t, "prometheus", "prometheus"),
		"--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+p.addr)
	await(t, "Prometheus starts", func() error {
		p.mustRun(t)
		_, err := get(t.Context(), "http://"+p.addr+"/-/ready")
		return err
	})
	return p
}

// sample is a series' value at the time of a query.
type sample struct {
	Metric map[string]string
	Value  float64
}

// query evaluates an expression now.
func (p *prometheus) query(t *testing.T, expression string) ([]sample, error) {
	t.Helper()
	body, err := get(t.Context(), "http://"+p.addr+"/api/v1/query?query="+url.QueryEscape(expression))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	type series struct {
		Metric map[string]string
		Value  point
	}
	var list []series
	if answer.Data.ResultType == "scalar" {
		list = make([]series, 1)
		err = json.Unmarshal(answer.Data.Result, &list[0].Value)
	} else {
		err = json.Unmarshal(answer.Data.Result, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", expression, err, body)
	}
	samples := make([]sample, len(list))
	for i, s := range list {
		samples[i] = sample{s.Metric, float64(s.Value)}
	}
	return samples, nil
}

// point is a pair of time and value, as Prometheus's API writes it; it keeps the value.
type point float64

func (p *point) UnmarshalJSON(text []byte) error {
	var value string
	if err := json.Unmarshal(text, &[]any{new(float64), &value}); err != nil {
		return err
	}
	_, err := fmt.Sscan(value, (*float64)(p))
	return err
}
