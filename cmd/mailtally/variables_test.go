package main

import (
	"slices"
	"strings"
	"testing"
)

func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	for name, nearest := range map[string]string{
		"KAFKA_BROKER":            "KAFKA_BROKERS",
		"KAFKA_GROUP_ID":          "KAFKA_GROUP",
		"KAFKA_SASL_USER":         "KAFKA_SASL_USERNAME",
		"KAFKA_TLS_CERTFILE":      "KAFKA_TLS_CERT_FILE",
		"CONSUMER_WRITER":         "CONSUMER_WRITERS",
		"CONSUMER_MAX_BATCH_SIZE": "CONSUMER_MAX_BATCH",
		"RESEND_WEBHOOK_SECRET":   "RESEND_WEBHOOK_SECRETS",
		"RESEND_SIGNING_SECRETS":  "RESEND_WEBHOOK_SECRETS",
		"DATABASE_URI":            "DATABASE_URL",
		"LOG_LEVELS":              "LOG_LEVEL",
		"ADMIN_ADDRS":             "ADMIN_ADDR",

		// Our own, and other programs'.
		"KAFKA_BROKERS": "", "KAFKA_SASL_PASSWORD_FILE": "", "CONSUMER_WRITERS": "",
		"KAFKA_SERVICE_HOST": "", "KAFKA_SERVICE_PORT_CLIENT": "", "KAFKA_PORT": "", "KAFKA_PORT_9092_TCP": "", "KAFKA_PORT_9092_TCP_ADDR": "",
		"CONSUMER_SERVICE_HOST": "", "KAFKA_HEAP_OPTS": "", "KAFKA_OPTS": "", "RESEND_API_KEY": "", "POSTMARK_API_TOKEN": "",
		"HTTP_PROXY": "", "HTTP_PORT": "", "DATABASE_HOST": "", "DATABASE_USER": "", "LOG_DIR": "", "LOG_FILE": "", "ADMIN_EMAIL": "",
		"PATH": "", "KAFKA": "", "HTTPS_PROXY": "", "kafka_brokers": "", "KAFKAESQUE_BROKERS": "", "": "",
	} {
		var want []string
		if nearest != "" {
			want = []string{name + ": the nearest known is " + nearest}
		}
		if got := unknownVariables(map[string]string{name: "x"}); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "a", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"BROKER", "BROKERS", 1}, {"ab", "ba", 2},
	} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("from %q to %q: %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

// Each command warns at its start. healthcheck, which runs every few seconds, does not.
func TestUnknownVariables_Warned(t *testing.T) {
	t.Parallel()
	// There is no such port: the role ends before it has done anything.
	environ := with(complete, "HTTP_ADDR", "127.0.0.1:0", "ADMIN_ADDR", "127.0.0.1:99999", "KAFKA_BROKER", "kafka:9092")
	for _, command := range []string{"dev", "producer", "consumer", "migrate", "simulate"} {
		p := start(t, environ, command)
		p.line(p.stderr, "KAFKA_BROKER: the nearest known is KAFKA_BROKERS")
		p.stop()
	}
	if p := start(t, environ, "healthcheck"); p.wait() != exitFailure || strings.Contains(p.stderr.String(), "KAFKA_BROKER") {
		t.Errorf("healthcheck: %s", p.stderr)
	}
}
