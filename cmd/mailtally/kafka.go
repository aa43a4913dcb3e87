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
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/twmb/franz-go/plugin/kprom"
	"github.com/twmb/franz-go/plugin/kslog"

	"github.com/mailtally/mailtally/consumer"
)

// kafkaOptions says how a client reaches the brokers. reg may be nil.
func kafkaOptions(c config, reg prometheus.Registerer, log *slog.Logger) ([]kgo.Opt, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(c.KafkaBrokers...),
		kgo.ClientID("mailtally"),
		kgo.WithLogger(quietLogger{kslog.New(log.With("component", "kafka client"))}),
	}
	if reg != nil {
		options = append(options, kgo.WithHooks(kprom.NewMetrics("mailtally_kafka", kprom.Registerer(reg))))
	}
	if c.KafkaTLS {
		config, errs := tlsConfig(c)
		if len(errs) > 0 {
			return nil, errors.Join(errs...)
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

// quietLogger passes the Kafka client's information on only where debug is asked
// for: it speaks of every step, and the roles say what matters of it.
type quietLogger struct{ kgo.Logger }

func (l quietLogger) Level() kgo.LogLevel {
	if level := l.Logger.Level(); level != kgo.LogLevelInfo {
		return level
	}
	return kgo.LogLevelWarn
}

// tlsConfig reads the files of KAFKA_TLS_…, and reports all that is wrong with
// them.
func tlsConfig(c config) (*tls.Config, []error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var errs []error
	if c.KafkaTLSCAFile != "" {
		pem, err := os.ReadFile(c.KafkaTLSCAFile)
		config.RootCAs = x509.NewCertPool()
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("KAFKA_TLS_CA_FILE: %w", err))
		case !config.RootCAs.AppendCertsFromPEM(pem):
			errs = append(errs, fmt.Errorf("KAFKA_TLS_CA_FILE: %s holds no certificate in PEM form", c.KafkaTLSCAFile))
		}
	}
	if c.KafkaTLSCertFile != "" && c.KafkaTLSKeyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.KafkaTLSCertFile, c.KafkaTLSKeyFile)
		if err != nil {
			errs = append(errs, fmt.Errorf("KAFKA_TLS_CERT_FILE and KAFKA_TLS_KEY_FILE: %w", err))
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, errs
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

// deadLetterRetention is a month, in ms, to look into what was dropped.
const deadLetterRetention = 30 * 24 * 60 * 60 * 1000

// createTopics makes the topics that do not exist yet. Those that do are left as
// they are.
func createTopics(ctx context.Context, c config, log *slog.Logger) error {
	options, err := kafkaOptions(c, nil, log)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	admin := kadm.NewClient(client)
	brokers := strings.Join(c.KafkaBrokers, ",")
	replicas := c.KafkaReplicationFactor
	if replicas == 0 {
		replicas = -1 // what Kafka calls it
	}
	common := map[string]*string{}
	if c.KafkaReplicationFactor >= 3 {
		// With the broker's default of 1, acks=all would be content with a single
		// replica while the others are away.
		common["min.insync.replicas"] = kadm.StringPtr("2")
	}
	deadLetter := map[string]*string{
		"max.message.bytes": kadm.StringPtr(strconv.Itoa(consumer.DeadLetterMaxBytes)),
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
		_, err := admin.CreateTopic(ctx, topic.partitions, replicas, topic.configs, topic.name)
		switch {
		case err == nil, errors.Is(err, kerr.TopicAlreadyExists):
		case errors.As(err, new(*kerr.Error)): // the broker's own answer
			return fmt.Errorf("create Kafka topic %q on %s: %w", topic.name, brokers, err)
		default:
			return fmt.Errorf("create Kafka topic %q on %s: %w: check that Kafka runs there, and KAFKA_BROKERS", topic.name, brokers, err)
		}
	}
	return nil
}
