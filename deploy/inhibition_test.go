package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
)

// A real Alertmanager with the shipped configuration mutes the consequences of what it
// reports, and nothing else; above all nothing of another environment.
func TestAlertsInhibit(t *testing.T) {
	t.Parallel()
	addr := runAlertmanager(t, "alertmanager/alertmanager.yml")
	const firing = `[
{"labels": {"alertname": "MailtallyKafkaNotAcknowledging", "severity": "critical", "provider": "resend"}},
{"labels": {"alertname": "MailtallyConsumerGroupEmpty", "severity": "critical", "group": "mailtally"}},
{"labels": {"alertname": "MailtallyDatabaseAway", "severity": "critical", "group": "mailtally"}},
{"labels": {"alertname": "MailtallyConsumerLagGrowing", "severity": "critical", "group": "mailtally"}},
{"labels": {"alertname": "MailtallyConsumerLagGrowing", "severity": "critical", "group": "other"}},
{"labels": {"alertname": "MailtallyWebhooksRefused", "severity": "critical", "provider": "resend"}},
{"labels": {"alertname": "MailtallyWebhooksRefused", "severity": "warning", "provider": "resend"}},
{"labels": {"alertname": "MailtallyWebhooksRefused", "severity": "warning", "provider": "other"}},
{"labels": {"alertname": "MailtallyWebhooksRefused", "severity": "warning", "provider": "resend", "job": "other"}},
{"labels": {"alertname": "MailtallyWebhooksRefused", "severity": "warning", "provider": "resend", "environment": "staging"}},
{"labels": {"alertname": "MailtallyConsumerLagGrowing", "severity": "critical", "group": "mailtally", "namespace": "staging"}},
{"labels": {"alertname": "MailtallyConsumerGroupEmpty", "severity": "critical", "group": "mailtally", "cluster": "b"}},
{"labels": {"alertname": "MailtallyConsumerGroupEmpty", "severity": "critical", "group": "mailtally", "job": "consumer"}},
{"labels": {"alertname": "MailtallyPartitionStuck", "severity": "critical", "group": "mailtally", "partition": "1"}},
{"labels": {"alertname": "MailtallyPartitionStuck", "severity": "critical", "group": "stuck", "partition": "1"}},
{"labels": {"alertname": "MailtallyConsumerLagGrowing", "severity": "critical", "group": "stuck"}},
{"labels": {"alertname": "MailtallyEventsLate", "severity": "critical", "group": "stuck"}},
{"labels": {"alertname": "MailtallyDeadLettersNotWritten", "severity": "critical", "group": "letters"}},
{"labels": {"alertname": "MailtallyPartitionStuck", "severity": "critical", "group": "letters", "partition": "1"}},
{"labels": {"alertname": "MailtallyDeadLettersNotWritten", "severity": "critical", "group": "letters", "cluster": "b"}},
{"labels": {"alertname": "MailtallyDroppingStopped", "severity": "critical", "group": "refused", "instance": "a"}},
{"labels": {"alertname": "MailtallyPartitionStuck", "severity": "critical", "group": "refused", "partition": "1"}},
{"labels": {"alertname": "MailtallyDatabaseAway", "severity": "critical", "group": "refused"}}
]`
	want := map[string]bool{ // is it muted?
		"MailtallyKafkaNotAcknowledging critical resend": false,
		"MailtallyConsumerGroupEmpty critical mailtally": true,
		"MailtallyDatabaseAway critical mailtally":       false,
		"MailtallyConsumerLagGrowing critical mailtally": true,
		"MailtallyConsumerLagGrowing critical other":     false,
		"MailtallyWebhooksRefused critical resend":       false,
		"MailtallyWebhooksRefused warning resend":        true,
		"MailtallyWebhooksRefused warning other":         false,

		"MailtallyPartitionStuck critical mailtally":                true,
		"MailtallyPartitionStuck critical stuck":                    false,
		"MailtallyConsumerLagGrowing critical stuck":                true,
		"MailtallyEventsLate critical stuck":                        true,
		"MailtallyDeadLettersNotWritten critical letters":           true, // Kafka acknowledges nothing
		"MailtallyPartitionStuck critical letters":                  true,
		"MailtallyDeadLettersNotWritten critical letters cluster=b": false,
		"MailtallyDroppingStopped critical refused":                 false,
		"MailtallyPartitionStuck critical refused":                  true,
		"MailtallyDatabaseAway critical refused":                    false, // of other members

		"MailtallyWebhooksRefused warning resend job=other":                false,
		"MailtallyWebhooksRefused warning resend environment=staging":      false,
		"MailtallyConsumerLagGrowing critical mailtally namespace=staging": false,
		"MailtallyConsumerGroupEmpty critical mailtally cluster=b":         false,
		"MailtallyConsumerGroupEmpty critical mailtally job=consumer":      true, // the producers are another job
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/api/v2/alerts", strings.NewReader(firing))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the alerts are answered %s", resp.Status)
	}
	// Which alerts are muted is known once they have been routed.
	await(t, "what is kept quiet", func() error {
		body, err := get(t.Context(), "http://"+addr+"/api/v2/alerts")
		if err != nil {
			return err
		}
		var alerts []struct {
			Labels map[string]string
			Status struct{ InhibitedBy []string }
		}
		if err := json.Unmarshal([]byte(body), &alerts); err != nil {
			return err
		}
		got := make(map[string]bool)
		for _, a := range alerts {
			name := a.Labels["alertname"] + " " + a.Labels["severity"] + " " + a.Labels["group"] + a.Labels["provider"]
			for _, label := range []string{"job", "environment", "namespace", "cluster"} {
				if a.Labels[label] != "" {
					name += " " + label + "=" + a.Labels[label]
				}
			}
			got[name] = len(a.Status.InhibitedBy) > 0
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("%v, want %v", got, want)
		}
		return nil
	})
}
