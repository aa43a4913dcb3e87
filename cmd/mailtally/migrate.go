package main

import (
	"context"
	"fmt"
	"io"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

// runMigrate brings PostgreSQL and Kafka to what this version needs. It may run
// any number of times, and on several machines at once.
func runMigrate(ctx context.Context, args []string, environ map[string]string, stdout, stderr io.Writer) error {
	if err := noArguments(args); err != nil {
		return err
	}
	c, err := loadConfig(environ, needsDatabase)
	if err != nil {
		return err
	}
	log := newLogger(c, stderr)
	pool, err := openPool(ctx, c.DatabaseURL, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := tracking.Migrate(ctx, pool); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "schema mailtally is up to date")

	options, err := kafkaOptions(c, nil, log)
	if err != nil {
		return err
	}
	// Brokers that are away get half a minute, as when all is started together.
	client, err := kgo.NewClient(append(options, kgo.RetryTimeout(migrateTimeout))...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	if err := createTopics(ctx, c, client); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "topics %s and %s exist\n", c.KafkaTopic, c.KafkaDeadLetterTopic)
	return nil
}
