package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// statusInterval is how often dev and simulate print their numbers.
const statusInterval = 3 * time.Second

// printWelcome says what runs and where to watch it, and prints the environment that
// another terminal needs to join in.
func printWelcome(w io.Writer, c config, parts parts, data string) {
	where := " Data is temporary: gone when this ends; -data FOLDER keeps it."
	switch {
	case !parts.started:
		where = ""
	case data != "":
		where = " Data is kept in " + data + "."
	}
	fmt.Fprintf(w, "mailtally dev: %s and %s, a producer, %d members of group %s.%s\n\n", parts.database, parts.kafka, devMembers, c.KafkaGroup, where)
	fmt.Fprintf(w, "Watch it live: %s\n\n", localURL(c.AdminAddr, "/"))
	for _, line := range joining(c) {
		fmt.Fprintf(w, "%s=%s\n", line[0], line[1])
	}
	fmt.Fprint(w, `
With these lines exported in another terminal (mailtally: go run ./cmd/mailtally):
    psql "$DATABASE_URL" -c 'SELECT * FROM mailtally.email_history LIMIT 5'
    ADMIN_ADDR=127.0.0.1:0 mailtally consumer      joins the group and takes over partitions
    mailtally simulate -rate 1000                  sends more
    curl $ADMIN_ADDR/metrics

The numbers are this process's own: what another consumer applies is counted there.
Received counts all webhooks, including forged and untracked ones, which go no further.

`)
}

// joining is the environment that another terminal needs: where this process's parts are,
// and of the rest whatever is not the default.
func joining(c config) [][2]string {
	lines := [][2]string{{"KAFKA_BROKERS", strings.Join(c.KafkaBrokers, ",")}}
	password := c.KafkaSASLPassword
	if c.KafkaSASLPasswordFile != "" { // only one of the two may be set
		password = ""
	}
	presets := make(map[string]string)
	for _, v := range variables() {
		presets[v.name] = v.preset
	}
	for _, line := range [][2]string{
		{"KAFKA_TLS", strconv.FormatBool(c.KafkaTLS)},
		{"KAFKA_TLS_CA_FILE", c.KafkaTLSCAFile},
		{"KAFKA_TLS_CERT_FILE", c.KafkaTLSCertFile},
		{"KAFKA_TLS_KEY_FILE", c.KafkaTLSKeyFile},
		{"KAFKA_SASL_MECHANISM", c.KafkaSASLMechanism},
		{"KAFKA_SASL_USERNAME", c.KafkaSASLUsername},
		{"KAFKA_SASL_PASSWORD", password},
		{"KAFKA_SASL_PASSWORD_FILE", c.KafkaSASLPasswordFile},
		{"KAFKA_TOPIC", c.KafkaTopic},
		{"KAFKA_DEAD_LETTER_TOPIC", c.KafkaDeadLetterTopic},
		{"KAFKA_GROUP", c.KafkaGroup},
	} {
		if line[1] != presets[line[0]] {
			lines = append(lines, line)
		}
	}
	return append(lines, [][2]string{
		{"DATABASE_URL", c.DatabaseURL},
		{"HTTP_ADDR", c.HTTPAddr},
		{"ADMIN_ADDR", c.AdminAddr},
		{"RESEND_WEBHOOK_SECRETS", c.ResendWebhookSecrets},
	}...)
}

// eachInterval calls print every few seconds until ctx ends.
func eachInterval(ctx context.Context, print func()) {
	ticker := time.NewTicker(statusInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			print()
		case <-ctx.Done():
			return
		}
	}
}

// printStatus prints this process's totals. No lag is known while it owns no partition,
// nor at the end, once its members have left.
func printStatus(w io.Writer, reg prometheus.Gatherer) {
	n, err := sums(reg)
	if err != nil {
		fmt.Fprintf(w, "metrics: %v\n", err)
		return
	}
	lag := "unknown"
	if records, known := n["mailtally_consumer_lag"]; known {
		lag = strconv.FormatFloat(records, 'f', 0, 64)
	}
	fmt.Fprintf(w, "%s  received %.0f  applied %.0f  duplicate %.0f  dropped %.0f  first opens %.0f  first clicks %.0f  lag %s\n",
		time.Now().Format(time.TimeOnly), n["mailtally_webhooks_total"], n["mailtally_events_applied_total"],
		n["mailtally_events_duplicate_total"], n["mailtally_events_dropped_total"], n["mailtally_first_opens_total"],
		n["mailtally_first_clicks_total"], lag)
}

// sums adds up the series of each metric.
func sums(reg prometheus.Gatherer) (map[string]float64, error) {
	families, err := reg.Gather()
	if err != nil {
		return nil, err
	}
	n := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			n[family.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return n, nil
}
