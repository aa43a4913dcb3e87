package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/twmb/franz-go/plugin/kprom"
)

// kafkaOptions says how a client reaches the brokers. reg may be nil.
func kafkaOptions(c config, reg prometheus.Registerer, log *slog.Logger) ([]kgo.Opt, error) {
	log = log.With("component", "kafka client")
	options := []kgo.Opt{
		kgo.SeedBrokers(c.KafkaBrokers...),
		kgo.ClientID("mailtally"),
		kgo.DialTimeout(kafkaDialTimeout),
		kgo.WithLogger(newKafkaLogger(log)),
		kgo.WithHooks(newBrokerWatch(log, c.KafkaSASLMechanism != "")),
	}
	if reg != nil {
		options = append(options, kgo.WithHooks(kprom.NewMetrics("mailtally_kafka", kprom.Registerer(reg))))
	}
	if codec, chosen := compressions()[c.KafkaCompression]; chosen {
		options = append(options, kgo.ProducerBatchCompression(codec))
	}
	if c.KafkaTLS {
		options = append(options, kgo.Dialer(tlsDialer(c)))
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

// compressions are the values of KAFKA_COMPRESSION.
func compressions() map[string]kgo.CompressionCodec {
	return map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
}

// tlsDialer dials with what the files of KAFKA_TLS_… hold at that moment.
func tlsDialer(c config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		config, errs := tlsConfig(c)
		if len(errs) > 0 {
			return nil, notDialed(errors.Join(errs...))
		}
		dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: kafkaDialTimeout}, Config: config}
		return dialer.DialContext(ctx, network, addr)
	}
}

// notDialed makes of err one that the Kafka client tries again, as any dial that failed.
func notDialed(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }

// tlsConfig reads the files of KAFKA_TLS_…, and reports all problems with them.
func tlsConfig(c config) (*tls.Config, []error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var errs []error
	if c.KafkaTLSCAFile != "" {
		pem, err := readSecretFile(c.KafkaTLSCAFile)
		config.RootCAs = x509.NewCertPool()
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("KAFKA_TLS_CA_FILE: %w", err))
		case !config.RootCAs.AppendCertsFromPEM([]byte(pem)):
			errs = append(errs, errors.New("KAFKA_TLS_CA_FILE: the file holds no certificate in PEM form"))
		}
	}
	if c.KafkaTLSCertFile != "" && c.KafkaTLSKeyFile != "" {
		cert, certErr := readSecretFile(c.KafkaTLSCertFile)
		if certErr != nil {
			errs = append(errs, fmt.Errorf("KAFKA_TLS_CERT_FILE: %w", certErr))
		}
		key, keyErr := readSecretFile(c.KafkaTLSKeyFile)
		if keyErr != nil {
			errs = append(errs, fmt.Errorf("KAFKA_TLS_KEY_FILE: %w", keyErr))
		}
		if certErr == nil && keyErr == nil {
			pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
			if err != nil {
				errs = append(errs, fmt.Errorf("KAFKA_TLS_CERT_FILE and KAFKA_TLS_KEY_FILE: %w", err))
			}
			config.Certificates = []tls.Certificate{pair}
		}
	}
	return config, errs
}

// saslMechanism authenticates each connection with the password of that moment.
func saslMechanism(c config) (sasl.Mechanism, error) {
	password := func() (string, error) {
		now, err := secret(c.KafkaSASLPassword, "KAFKA_SASL_PASSWORD", c.KafkaSASLPasswordFile)
		if err != nil {
			return "", notDialed(err)
		}
		return now, nil
	}
	challenged := func(context.Context) (scram.Auth, error) {
		now, err := password()
		return scram.Auth{User: c.KafkaSASLUsername, Pass: now}, err
	}
	switch c.KafkaSASLMechanism {
	case "":
		return nil, nil
	case "PLAIN":
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			now, err := password()
			return plain.Auth{User: c.KafkaSASLUsername, Pass: now}, err
		}), nil
	case "SCRAM-SHA-256":
		return scram.Sha256(challenged), nil
	case "SCRAM-SHA-512":
		return scram.Sha512(challenged), nil
	}
	return nil, errors.New("want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
}
