package main

import (
	"context"
	"io"
	"time"

	"github.com/mailtally/mailtally/producer"
)

// runProducer is the webhook gateway. When ctx ends it takes no more webhooks
// and gives those in flight their true answer.
func runProducer(ctx context.Context, args []string, environ map[string]string, _, stderr io.Writer) (err error) {
	if err := noArguments(args); err != nil {
		return err
	}
	c, err := loadConfig(environ, needsProvider)
	if err != nil {
		return err
	}
	log, flush := newLogger(c, stderr)
	defer flush()
	defer func() {
		if err == nil {
			log.Info("producer stopped")
		}
	}()
	reg := newRegistry()
	kafka, err := kafkaOptions(c, reg, log)
	if err != nil {
		return err
	}
	p, err := producer.New(producer.Options{
		Kafka: kafka, Topic: c.KafkaTopic, DeadLetterTopic: c.KafkaDeadLetterTopic,
		Endpoints: c.endpoints, Registerer: reg, Logger: log,
	})
	if err != nil {
		return err
	}
	defer func() {
		start := time.Now()
		p.Close()
		log.Info("Kafka connections closed", "duration", since(start))
	}()

	public, err := listen("HTTP_ADDR", c.HTTPAddr)
	if err != nil {
		return err
	}
	defer public.Close()
	admin, err := listen("ADMIN_ADDR", c.AdminAddr)
	if err != nil {
		return err
	}
	withSettings(log, c).Info("producer started", "http_addr", public.Addr().String(), "admin_addr", admin.Addr().String())
	return withAdmin(ctx, admin, adminHandler(reg, check{"kafka", p.Ready}), log, func(ctx context.Context) error {
		return serve(ctx, public, p.Handler(), webhookDrain, log.With("component", "webhooks"))
	})
}
