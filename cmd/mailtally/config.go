package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/caarlos0/env/v11"

	"github.com/mailtally/mailtally/tracking/provider"
)

// config is everything read from the environment. The tags describe each variable: its
// name and default, the commands that read it (dev reads all), and its help. Each
// command's help is generated from them, and a test checks the documentation against
// them.
type config struct {
	KafkaBrokers           []string `env:"KAFKA_BROKERS" envDefault:"localhost:9092" for:"producer consumer migrate" help:"host:port of one or more brokers, comma separated; the default port is 9092"`
	KafkaTopic             string   `env:"KAFKA_TOPIC" envDefault:"email-events" for:"producer consumer migrate" help:"the topic of the events"`
	KafkaDeadLetterTopic   string   `env:"KAFKA_DEAD_LETTER_TOPIC" envDefault:"email-events.dead-letter" for:"producer consumer migrate" help:"the topic for events that cannot be counted"`
	KafkaGroup             string   `env:"KAFKA_GROUP" envDefault:"mailtally" for:"consumer" help:"the consumer group"`
	KafkaPartitions        int32    `env:"KAFKA_PARTITIONS" envDefault:"12" for:"migrate" help:"partitions of the topic that migrate creates"`
	KafkaReplicationFactor int16    `env:"KAFKA_REPLICATION_FACTOR" for:"migrate" help:"replicas of the topics that migrate creates; the broker's default if not set"`
	KafkaCompression       string   `env:"KAFKA_COMPRESSION" envDefault:"snappy" for:"producer consumer" help:"how records are compressed: none, gzip, snappy, lz4 or zstd"`

	KafkaTLS         bool   `env:"KAFKA_TLS" envDefault:"false" for:"producer consumer migrate" help:"true to connect with TLS"`
	KafkaTLSCAFile   string `env:"KAFKA_TLS_CA_FILE" for:"producer consumer migrate" help:"PEM; the system's certificate authorities if not set"`
	KafkaTLSCertFile string `env:"KAFKA_TLS_CERT_FILE" for:"producer consumer migrate" help:"PEM, with KAFKA_TLS_KEY_FILE, for brokers that ask for a client certificate"`
	KafkaTLSKeyFile  string `env:"KAFKA_TLS_KEY_FILE" for:"producer consumer migrate" help:"PEM, the certificate's private key"`

	KafkaSASLMechanism    string `env:"KAFKA_SASL_MECHANISM" for:"producer consumer migrate" help:"PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"`
	KafkaSASLUsername     string `env:"KAFKA_SASL_USERNAME" for:"producer consumer migrate" help:"the SASL user name"`
	KafkaSASLPassword     string `env:"KAFKA_SASL_PASSWORD" for:"producer consumer migrate" help:"the SASL password"`
	KafkaSASLPasswordFile string `env:"KAFKA_SASL_PASSWORD_FILE" for:"producer consumer migrate" help:"a file that holds the SASL password"`

	ConsumerMaxBatch int `env:"CONSUMER_MAX_BATCH" envDefault:"10000" for:"consumer" help:"the most events per transaction, and per poll"`
	ConsumerWriters  int `env:"CONSUMER_WRITERS" envDefault:"4" for:"consumer" help:"concurrent transactions under a backlog"`

	ConsumerMaxRefused int `env:"CONSUMER_MAX_REFUSED" envDefault:"100" for:"consumer" help:"the most events in a row that are dropped because PostgreSQL refuses them; 0 for no limit"`

	DatabaseURL     string `env:"DATABASE_URL" for:"consumer migrate" help:"a PostgreSQL URL or keyword/value string, as libpq and pgx read it"`
	DatabaseURLFile string `env:"DATABASE_URL_FILE" for:"consumer migrate" help:"a file that holds DATABASE_URL"`

	MigrateTimeout time.Duration `env:"MIGRATE_TIMEOUT" envDefault:"1m" for:"migrate" help:"how long migrate waits for PostgreSQL, for locks that others hold, and for Kafka"`

	HTTPAddr  string `env:"HTTP_ADDR" envDefault:":8080" for:"producer simulate" help:"the producer's public port: webhooks only"`
	AdminAddr string `env:"ADMIN_ADDR" envDefault:":8081" for:"producer consumer healthcheck" help:"the admin port of every role: / (the live page), /metrics, /healthz, /readyz"`

	ShutdownDelay   time.Duration `env:"SHUTDOWN_DELAY" envDefault:"5s" for:"producer" help:"how long a producer keeps serving after SIGTERM, with /readyz at 503"`
	HTTPIdleTimeout time.Duration `env:"HTTP_IDLE_TIMEOUT" envDefault:"65m" for:"producer" help:"how long a connection to HTTP_ADDR may be idle"`

	ResendWebhookSecrets     string `env:"RESEND_WEBHOOK_SECRETS" for:"producer simulate" help:"comma separated whsec_…: more than one while rotating"`
	ResendWebhookSecretsFile string `env:"RESEND_WEBHOOK_SECRETS_FILE" for:"producer simulate" help:"a file that holds them"`

	PostmarkWebhookCredentials     string `env:"POSTMARK_WEBHOOK_CREDENTIALS" for:"producer" help:"comma separated user:password: more than one while rotating"`
	PostmarkWebhookCredentialsFile string `env:"POSTMARK_WEBHOOK_CREDENTIALS_FILE" for:"producer" help:"a file that holds them"`

	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info" for:"producer consumer migrate simulate" help:"debug, info, warn or error"`
	LogFormat string     `env:"LOG_FORMAT" envDefault:"json" for:"producer consumer migrate simulate" help:"json or text"`

	// endpoints are those of the configured providers.
	endpoints []provider.Endpoint
	// brokersDefaulted says that KafkaBrokers is the default.
	brokersDefaulted bool
}

// maxWriters bounds a member's connections: PostgreSQL allows 100 by default, and an
// extra digit in a variable must not lock out everybody else.
const maxWriters = 64

// What a command requires, for loadConfig.
const (
	needsDatabase = 1 << iota
	needsProvider
	needsResend
)

// loadConfig reads the configuration, and reports all problems at once, each with
// its variable's name.
func loadConfig(environ map[string]string, needs int) (config, error) {
	var c config
	var problems []error
	unread := make(map[string]bool) // values that did not parse: one error for each is enough
	problem := func(variable, format string, args ...any) {
		if !unread[variable] {
			problems = append(problems, fmt.Errorf("%s: %w", variable, fmt.Errorf(format, args...)))
		}
	}

	present := set(environ)
	for _, v := range variables() {
		if err := checkEncoding(present[v.name]); err != nil {
			problem(v.name, "%w", err)
			unread[v.name] = true
		}
	}
	err := env.ParseWithOptions(&c, env.Options{Environment: present})
	all, _ := errors.AsType[env.AggregateError](err)
	for _, err := range all.Errors {
		parse, isParse := errors.AsType[env.ParseError](err)
		if !isParse {
			problems = append(problems, err)
			continue
		}
		field, _ := reflect.TypeFor[config]().FieldByName(parse.Name)
		variable := field.Tag.Get("env")
		problem(variable, "is not a %s", kind(field.Type))
		unread[variable] = true
	}

	fromFile(&c.KafkaSASLPassword, "KAFKA_SASL_PASSWORD", c.KafkaSASLPasswordFile, problem)
	fromFile(&c.DatabaseURL, "DATABASE_URL", c.DatabaseURLFile, problem)
	providerVariables, anyProvider := c.configureProviders(problem)

	c.brokersDefaulted = present["KAFKA_BROKERS"] == ""
	c.KafkaBrokers = trimmed(c.KafkaBrokers)
	if len(c.KafkaBrokers) == 0 {
		problem("KAFKA_BROKERS", "names no broker")
	}
	for i, broker := range c.KafkaBrokers {
		if !isBroker(broker) {
			problem("KAFKA_BROKERS", "entry %d is not host:port: want a host's name or IP address and a port from 1 to 65535, and nothing else (no http://, no user, no path)", i+1)
		}
	}
	for variable, addr := range map[string]string{"HTTP_ADDR": c.HTTPAddr, "ADMIN_ADDR": c.AdminAddr} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			problem(variable, "want host:port, or :port for all of this machine's addresses, such as 127.0.0.1:8080")
		}
	}
	if c.ShutdownDelay < 0 {
		problem("SHUTDOWN_DELAY", "%v: want 0 or more", c.ShutdownDelay)
	}
	if c.HTTPIdleTimeout <= 0 {
		problem("HTTP_IDLE_TIMEOUT", "%v: want more than 0", c.HTTPIdleTimeout)
	}
	if c.KafkaTopic == c.KafkaDeadLetterTopic {
		problem("KAFKA_DEAD_LETTER_TOPIC", "is KAFKA_TOPIC: dead letters would be consumed again, forever")
	}
	if c.KafkaPartitions < 1 {
		problem("KAFKA_PARTITIONS", "%d: want 1 or more", c.KafkaPartitions)
	}
	if c.KafkaReplicationFactor < 1 && present["KAFKA_REPLICATION_FACTOR"] != "" {
		problem("KAFKA_REPLICATION_FACTOR", "%d: want 1 or more, or leave it out for the broker's default", c.KafkaReplicationFactor)
	}
	if c.MigrateTimeout <= 0 {
		problem("MIGRATE_TIMEOUT", "%v: want more than 0", c.MigrateTimeout)
	}
	if c.ConsumerMaxBatch < 1 {
		problem("CONSUMER_MAX_BATCH", "%d: want 1 or more", c.ConsumerMaxBatch)
	}
	if c.ConsumerWriters < 1 || c.ConsumerWriters > maxWriters {
		problem("CONSUMER_WRITERS", "%d: want 1 to %d: each has a connection of its own", c.ConsumerWriters, maxWriters)
	}
	if _, known := compressions()[c.KafkaCompression]; !known {
		problem("KAFKA_COMPRESSION", "want none, gzip, snappy, lz4 or zstd")
	}
	if c.ConsumerMaxRefused < 0 {
		problem("CONSUMER_MAX_REFUSED", "%d: want 1 or more, or 0 for no limit", c.ConsumerMaxRefused)
	}
	if !c.KafkaTLS {
		for variable, file := range map[string]string{"KAFKA_TLS_CA_FILE": c.KafkaTLSCAFile, "KAFKA_TLS_CERT_FILE": c.KafkaTLSCertFile, "KAFKA_TLS_KEY_FILE": c.KafkaTLSKeyFile} {
			if file != "" {
				problem(variable, "is set, but KAFKA_TLS is not: set KAFKA_TLS=true, or leave it out")
			}
		}
	}
	if (c.KafkaTLSCertFile == "") != (c.KafkaTLSKeyFile == "") {
		problem("KAFKA_TLS_CERT_FILE", "goes with KAFKA_TLS_KEY_FILE, so set both or neither")
	}
	if c.KafkaTLS {
		_, errs := tlsConfig(c)
		problems = append(problems, errs...)
	}
	if _, err := saslMechanism(c); err != nil {
		problem("KAFKA_SASL_MECHANISM", "%w", err)
	}
	if sasl := firstSet(present, "KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD", "KAFKA_SASL_PASSWORD_FILE"); sasl != "" {
		if c.KafkaSASLMechanism == "" {
			problem("KAFKA_SASL_MECHANISM", "is not set, but %s is: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", sasl)
		}
		if c.KafkaSASLUsername == "" {
			problem("KAFKA_SASL_USERNAME", "is not set, but %s is", sasl)
		}
		if c.KafkaSASLPassword == "" && c.KafkaSASLPasswordFile == "" {
			problem("KAFKA_SASL_PASSWORD", "is not set, but %s is", sasl)
		}
	}
	if !slices.Contains([]string{"json", "text"}, c.LogFormat) {
		problem("LOG_FORMAT", "want json or text")
	}

	if needs&needsDatabase != 0 && c.DatabaseURL == "" && c.DatabaseURLFile == "" {
		problem("DATABASE_URL", "is not set: want a PostgreSQL URL such as postgres://user:password@host:5432/database")
	}
	if c.DatabaseURL != "" {
		if _, err := poolConfig(c.DatabaseURL); err != nil {
			problem("DATABASE_URL", "%w", err)
		}
	}
	if needs&needsProvider != 0 && !anyProvider {
		problem(providerVariables[0], "is not set, nor is %s: set at least one of them", strings.Join(providerVariables[1:], ", "))
	}
	if needs&needsResend != 0 && c.ResendWebhookSecrets == "" && c.ResendWebhookSecretsFile == "" {
		problem("RESEND_WEBHOOK_SECRETS", "is not set: want the endpoint's signing secret, whsec_…, from Resend's webhook page")
	}
	if len(problems) > 0 {
		lines := make([]string, len(problems))
		for i, p := range problems {
			lines[i] = "\n    " + p.Error()
		}
		slices.Sort(lines)
		return config{}, usageError{fmt.Errorf("the configuration is wrong:%s", strings.Join(lines, ""))}
	}
	return c, nil
}

// set returns the variables that are set. An empty one counts as not set.
func set(environ map[string]string) map[string]string {
	present := make(map[string]string)
	for name, value := range environ {
		if strings.TrimSpace(value) != "" {
			present[name] = value
		}
	}
	return present
}

// firstSet returns the first of the variables that is set, or nothing.
func firstSet(present map[string]string, names ...string) string {
	for _, name := range names {
		if present[name] != "" {
			return name
		}
	}
	return ""
}

func kind(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[slog.Level]():
		return "level: want debug, info, warn or error"
	case t == reflect.TypeFor[time.Duration]():
		return "duration: want a number with a unit, such as 30s or 5m"
	case t.Kind() == reflect.Bool:
		return "boolean: want true or false"
	}
	return "number"
}

// fromFile sets a secret from the file that NAME_FILE names.
func fromFile(value *string, name, file string, problem func(string, string, ...any)) {
	if file == "" {
		return
	}
	if *value != "" {
		problem(name+"_FILE", "is set, and so is %s: set one of them", name)
		return
	}
	content, err := readSecretFile(file)
	if err != nil {
		problem(name+"_FILE", "%w", err)
		return
	}
	*value = content
}

// isBroker reports whether s is a host and, unless it is the default, a port. The Kafka
// client accepts much else, and dials it for ever.
func isBroker(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil { // without a port
		host, port, err = net.SplitHostPort(s + ":9092")
	}
	if err != nil { // an IPv6 address without brackets, too
		host, port = s, "9092"
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return isPort(port)
	}
	odd := func(r rune) bool { return !isLetterOrDigit(r) && !strings.ContainsRune(".-_", r) }
	return isPort(port) && strings.ContainsFunc(host, isLetterOrDigit) && !strings.ContainsFunc(host, odd) && !strings.HasPrefix(s, "[")
}

func isLetterOrDigit(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

func isPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return err == nil && port > 0
}

func trimmed(list []string) []string {
	for i, s := range list {
		list[i] = strings.TrimSpace(s)
	}
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}
