package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/twmb/franz-go/plugin/kprom"
	"github.com/twmb/franz-go/plugin/kslog"
)

// kafkaOptions says how a client reaches the brokers. reg may be nil.
func kafkaOptions(c config, reg prometheus.Registerer, log *slog.Logger) ([]kgo.Opt, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(c.KafkaBrokers...),
		kgo.ClientID("mailtally"),
		kgo.WithLogger(kslog.New(log.With("component", "kafka client"))),
	}
	if reg != nil {
		options = append(options, kgo.WithHooks(kprom.NewMetrics("mailtally_kafka", kprom.Registerer(reg))))
	}
	if c.KafkaTLS {
		config, err := tlsConfig(c)
		if err != nil {
			return nil, err
		}
		options = append(options, kgo.DialTLSConfig(config))
	}
	mechanism, err := saslMechanism(c)
	if err != nil {
		return nil, err
	}
	if mechanism != nil {
		options = append(options, kgo.SASL(mechanism))
	}
	return options, nil
}

func tlsConfig(c config) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.KafkaTLSCAFile != "" {
		pem, err := os.ReadFile(c.KafkaTLSCAFile)
		if err != nil {
			return nil, fmt.Errorf("KAFKA_TLS_CA_FILE: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("KAFKA_TLS_CA_FILE: %s holds no certificate in PEM form", c.KafkaTLSCAFile)
		}
	}
	if c.KafkaTLSCertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.KafkaTLSCertFile, c.KafkaTLSKeyFile)
		if err != nil {
			return nil, fmt.Errorf("KAFKA_TLS_CERT_FILE and KAFKA_TLS_KEY_FILE: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func saslMechanism(c config) (sasl.Mechanism, error) {
	user, password := c.KafkaSASLUsername, c.KafkaSASLPassword
	switch c.KafkaSASLMechanism {
	case "":
		return nil, nil
	case "PLAIN":
		return plain.Auth{User: user, Pass: password}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("%q is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", c.KafkaSASLMechanism)
}

// deadLetterMaxBytes is Kafka's default limit for a record and as much again, so
// that a record of any topic fits with what a dead letter adds to it.
const (
	deadLetterMaxBytes  = 2 << 20
	deadLetterRetention = 30 * 24 * 60 * 60 * 1000 // ms: a month to look into it
)

// createTopics makes the topics that do not exist yet. Those that do are left as
// they are.
func createTopics(ctx context.Context, c config, client *kgo.Client) error {
	admin := kadm.NewClient(client)
	common := map[string]*string{}
	if c.KafkaReplicationFactor >= 3 {
		// With the broker's default of 1, acks=all would be content with a single
		// replica while the others are away.
		common["min.insync.replicas"] = kadm.StringPtr("2")
	}
	deadLetter := map[string]*string{
		"max.message.bytes": kadm.StringPtr(strconv.Itoa(deadLetterMaxBytes)),
		"retention.ms":      kadm.StringPtr(strconv.Itoa(deadLetterRetention)),
	}
	for name, value := range common {
		deadLetter[name] = value
	}
	for _, topic := range []struct {
		name       string
		partitions int32
		configs    map[string]*string
	}{
		{c.KafkaTopic, c.KafkaPartitions, common},
		{c.KafkaDeadLetterTopic, 1, deadLetter},
	} {
		_, err := admin.CreateTopic(ctx, topic.partitions, c.KafkaReplicationFactor, topic.configs, topic.name)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create Kafka topic %q on %v: %w", topic.name, c.KafkaBrokers, err)
		}
	}
	return nil
}
