package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailtally/mailtally/tracking/provider"
	"github.com/mailtally/mailtally/tracking/provider/all"
)

// complete is the least configuration that every role accepts.
var complete = map[string]string{
	"DATABASE_URL": "postgres://user:hunter2@db/mailtally", "RESEND_WEBHOOK_SECRETS": testSecret,
}

func TestConfig_Defaults(t *testing.T) {
	t.Parallel()
	c, err := loadConfig(complete, needsDatabase|needsProvider)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.endpoints) != 1 || !c.brokersDefaulted {
		t.Errorf("%d endpoints, brokers defaulted: %v", len(c.endpoints), c.brokersDefaulted)
	}
	c.endpoints = nil
	want := config{
		KafkaBrokers: []string{"localhost:9092"}, KafkaTopic: "email-events", KafkaDeadLetterTopic: "email-events.dead-letter",
		KafkaGroup: "mailtally", KafkaCompression: "snappy", KafkaPartitions: 12, ConsumerMaxBatch: 10_000, ConsumerWriters: 4, ConsumerMaxRefused: 100, MigrateTimeout: time.Minute,
		DatabaseURL: "postgres://user:hunter2@db/mailtally", HTTPAddr: ":8080", AdminAddr: ":8081",
		HTTPIdleTimeout: 65 * time.Minute, ShutdownDelay: 5 * time.Second,
		ResendWebhookSecrets: testSecret, LogLevel: slog.LevelInfo, LogFormat: "json", brokersDefaulted: true,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

// A variable that is set to nothing counts as not set.
func TestConfig_Empty(t *testing.T) {
	t.Parallel()
	environ := with(complete)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[config]()) {
		if name := field.Tag.Get("env"); name != "" && complete[name] == "" {
			environ[name] = "  "
		}
	}
	empty, err := loadConfig(environ, 0)
	if err != nil {
		t.Fatal(err)
	}
	unset, err := loadConfig(complete, 0)
	if err != nil {
		t.Fatal(err)
	}
	empty.endpoints, unset.endpoints = nil, nil
	if !reflect.DeepEqual(empty, unset) {
		t.Errorf("got  %+v\nwant %+v", empty, unset)
	}
}

func TestConfig_Set(t *testing.T) {
	t.Parallel()
	c, err := loadConfig(with(complete, "KAFKA_BROKERS", " a:1, b , ", "RESEND_WEBHOOK_SECRETS", testSecret+", "+testSecret, "POSTMARK_WEBHOOK_CREDENTIALS", "me:an-old-secret-of-ours, me:a-new-secret-of-ours", "LOG_LEVEL", "DEBUG",
		"KAFKA_SASL_MECHANISM", "SCRAM-SHA-512", "KAFKA_SASL_USERNAME", "u", "KAFKA_SASL_PASSWORD", "p"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.KafkaBrokers, []string{"a:1", "b"}) || len(c.endpoints) != 2 || c.LogLevel != slog.LevelDebug || c.brokersDefaulted {
		t.Errorf("got %+v", c)
	}
}

// All errors are reported at once, each with its variable's name, and together they are
// a usage error.
func TestConfig_EveryErrorAtOnce(t *testing.T) {
	t.Parallel()
	wrong := map[string]string{
		"KAFKA_BROKERS":                "host:port",
		"KAFKA_DEAD_LETTER_TOPIC":      "email-events",
		"KAFKA_PARTITIONS":             "0",
		"KAFKA_REPLICATION_FACTOR":     "-1",
		"CONSUMER_MAX_BATCH":           "0",
		"CONSUMER_WRITERS":             "65",
		"MIGRATE_TIMEOUT":              "30",
		"CONSUMER_MAX_REFUSED":         "-1",
		"KAFKA_TLS":                    "maybe",
		"KAFKA_TLS_CA_FILE":            "/nowhere/ca",
		"KAFKA_TLS_CERT_FILE":          "/nowhere/cert",
		"KAFKA_SASL_MECHANISM":         "GSSAPI",
		"KAFKA_SASL_PASSWORD_FILE":     "/nowhere/password",
		"DATABASE_URL_FILE":            "/nowhere/url",
		"HTTP_ADDR":                    "8080",
		"ADMIN_ADDR":                   "localhost",
		"HTTP_IDLE_TIMEOUT":            "0s",
		"SHUTDOWN_DELAY":               "-1s",
		"RESEND_WEBHOOK_SECRETS_FILE":  "/nowhere/secrets",
		"POSTMARK_WEBHOOK_CREDENTIALS": "nobody",
		"LOG_LEVEL":                    "loud",
		"LOG_FORMAT":                   "xml",
	}
	p := start(t, wrong, "producer")
	if code := p.wait(); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
	for name := range wrong {
		if !strings.Contains(p.stderr.String(), "\n    "+name+": ") {
			t.Errorf("%s is missing in\n%s", name, p.stderr)
		}
	}

	wrong = map[string]string{
		"KAFKA_TLS": "true", "KAFKA_TLS_CA_FILE": "/nowhere/ca", "KAFKA_TLS_CERT_FILE": "/nowhere/cert", "KAFKA_TLS_KEY_FILE": "/nowhere/key",
		"KAFKA_PARTITIONS": "many", "KAFKA_REPLICATION_FACTOR": "all", "HTTP_IDLE_TIMEOUT": "10", "DATABASE_URL": "a", "RESEND_WEBHOOK_SECRETS": "b%,",
		"POSTMARK_WEBHOOK_CREDENTIALS": "me:,:secret,nobody",
	}
	_, err := loadConfig(wrong, 0)
	for name := range wrong {
		if name != "KAFKA_TLS" && !strings.Contains(err.Error(), name) {
			t.Errorf("%s is missing in\n%v", name, err)
		}
	}
	if n := strings.Count(err.Error(), "RESEND_WEBHOOK_SECRETS: secret"); n != 2 {
		t.Errorf("%d wrong secrets of 2 in\n%v", n, err)
	}
	if n := strings.Count(err.Error(), "POSTMARK_WEBHOOK_CREDENTIALS: entry"); n != 3 {
		t.Errorf("%d wrong credentials of 3 in\n%v", n, err)
	}
}

// Of what SASL needs, the error names what is missing, and nothing else.
func TestConfig_SASLIncomplete(t *testing.T) {
	t.Parallel()
	sasl := map[string]string{"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": "p"}
	for missing := range sasl {
		_, err := loadConfig(with(sasl, missing, ""), 0)
		if err == nil || strings.Count(err.Error(), "is not set, but") != 1 || !strings.Contains(err.Error(), missing+": is not set, but") {
			t.Errorf("without %s: %v", missing, err)
		}
		alone := map[string]string{missing: sasl[missing]}
		if _, err := loadConfig(alone, 0); err == nil || strings.Count(err.Error(), ": is not set, but "+missing+" is") != 2 {
			t.Errorf("%s alone: %v", missing, err)
		}
	}
}

func TestConfig_SecretsFromFiles(t *testing.T) {
	t.Parallel()
	file := func(content string) string {
		name := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	c, err := loadConfig(map[string]string{
		"DATABASE_URL_FILE": file("postgres://user:hunter2@db/mailtally\n"), "RESEND_WEBHOOK_SECRETS_FILE": file(testSecret + "\r\n"),
		"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD_FILE": file("p\n"),
	}, needsDatabase|needsProvider)
	if err != nil || c.DatabaseURL != "postgres://user:hunter2@db/mailtally" || len(c.endpoints) != 1 || c.KafkaSASLPassword != "p" {
		t.Errorf("got %+v, %v", c, err)
	}
	for _, test := range []struct {
		environ map[string]string
		want    string
	}{
		{with(complete, "DATABASE_URL_FILE", file("x")), "DATABASE_URL_FILE: is set, and so is DATABASE_URL"},
		{map[string]string{"DATABASE_URL_FILE": file(" \n")}, "is empty"},
		{map[string]string{"RESEND_WEBHOOK_SECRETS_FILE": "/nowhere"}, "RESEND_WEBHOOK_SECRETS_FILE: cannot be opened: no such file"},
	} {
		if _, err := loadConfig(test.environ, 0); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("error %v, want %q in it", err, test.want)
		}
	}
}

// Whatever is wrong with a secret, the error does not quote it.
func TestConfig_ErrorsHideSecrets(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	for variable, values := range map[string][]string{
		"DATABASE_URL": {
			"s3cr3t", "postgres://user:s3cr3t", "postgres://user:s3cr3t@host:x/db", "postgres://user:s3cr3t@ho st/db", "postgres://user:s3cr3t%zz@host/db",
			"postgres://user:a@s3cr3t@host:x/db", "postgres://user:a/s3cr3t@host/db", "postgres://user:s3cr3t@host/db?sslmode=x",
			"postgres://host/db?password=s3cr3t&port=x", "postgres://host/db?password=%zzs3cr3t", "postgres://host/db?s3cr3t", "host=h password = s3cr3t port=x", "password='s3cr3t", "user:s3cr3t@host",
			"mysql://user:s3cr3t@host/db", "postgres://user:s3cr3t@host/db?pool_max_conns=x",
		},
		"RESEND_WEBHOOK_SECRETS":       {"whsec_s3cr3t%", "s3cr3t=s3cr3t", "whsec_,s3cr3t!"},
		"POSTMARK_WEBHOOK_CREDENTIALS": {"s3cr3t", "user:s3cr3t,s3cr3t", ":s3cr3t"},
		"KAFKA_SASL_PASSWORD":          {"s3cr3t"},
	} {
		for _, value := range values {
			// LOG_FORMAT is always wrong.
			environ := map[string]string{variable: value, "LOG_FORMAT": "xml", "KAFKA_SASL_MECHANISM": "PLAIN"}
			if _, err := loadConfig(environ, 0); err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("%s=%s: error %v", variable, value, err)
			} else if !strings.Contains(err.Error(), variable+":") && variable != "KAFKA_SASL_PASSWORD" {
				t.Errorf("%s=%s is accepted: %v", variable, value, err)
			}
		}
	}
}

// A producer serves whichever providers are configured, and names the variables if none
// is.
func TestConfig_AnyProviderWillDo(t *testing.T) {
	t.Parallel()
	for variable, value := range map[string]string{"RESEND_WEBHOOK_SECRETS": testSecret, "POSTMARK_WEBHOOK_CREDENTIALS": "me:a-secret-of-our-own"} {
		c, err := loadConfig(map[string]string{variable: value}, needsProvider)
		if err != nil || len(c.endpoints) != 1 {
			t.Errorf("%s alone: %d endpoints, %v", variable, len(c.endpoints), err)
			continue
		}
		isRead := func(p provider.Provider) bool { return p.Name() == c.endpoints[0].Name() }
		if !slices.ContainsFunc(all.Providers(), isRead) {
			t.Errorf("consumers do not read what the endpoint of %s takes", variable)
		}
		if _, err := loadConfig(nil, needsProvider); err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("without any: %v, want %s named", err, variable)
		}
	}
}
