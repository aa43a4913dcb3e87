package main

import (
	"cmp"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// newLogger writes structured logs to standard error: standard output belongs to the
// command. flush writes what is held back, and has to be called last.
func newLogger(c config, w io.Writer) (log *slog.Logger, flush func()) {
	options := &slog.HandlerOptions{Level: c.LogLevel, ReplaceAttr: safeErrors}
	var handler slog.Handler = slog.NewJSONHandler(w, options)
	if c.LogFormat == "text" {
		handler = slog.NewTextHandler(w, options)
	}
	limited, flush := newLogLimit(handler)
	return slog.New(limited), flush
}

// withSettings adds to a role's first line which version runs, and how it reaches
// Kafka.
func withSettings(log *slog.Logger, c config) *slog.Logger {
	return log.With("version", version(), "brokers", c.KafkaBrokers, "tls", c.KafkaTLS, "sasl", cmp.Or(c.KafkaSASLMechanism, "none"),
		"topic", c.KafkaTopic, "dead_letter_topic", c.KafkaDeadLetterTopic)
}

// databaseName is the part of a DATABASE_URL that may be logged: PostgreSQL's hosts and
// the database's name.
func databaseName(url string) string {
	config, err := poolConfig(url)
	if err != nil {
		return "unknown"
	}
	at := func(host string, port uint16) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }
	hosts := []string{at(config.ConnConfig.Host, config.ConnConfig.Port)}
	for _, other := range config.ConnConfig.Fallbacks { // the same host with and without TLS, and other hosts
		if host := at(other.Host, other.Port); !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return strings.Join(hosts, ",") + "/" + config.ConnConfig.Database
}

// since is the time since start, as log lines give it.
func since(start time.Time) string { return time.Since(start).Round(time.Millisecond).String() }
