package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailtally/mailtally/producer"
)

// runProducer is the webhook gateway. When ctx ends it is no longer ready, keeps serving for
// SHUTDOWN_DELAY, accepts no more webhooks, and answers those in flight once their outcome
// is known.
func runProducer(ctx context.Context, i *invocation) error {
	c, log, flush, err := i.begin(needsProvider)
	if err != nil {
		return err
	}
	defer flush()
	err = live(ctx, log, func(ctx context.Context, life *lifecycle) error {
		public, err := life.listen("HTTP_ADDR", c.HTTPAddr)
		if err != nil {
			return err
		}
		admin, err := life.listen("ADMIN_ADDR", c.AdminAddr)
		if err != nil {
			return err
		}
		roles := life.group("producer", c.ShutdownDelay+roleStopTimeout)
		reg := newRegistry()
		gateway, err := newGateway(roles, c, reg, reg)
		if err != nil {
			return err
		}
		withSettings(log, c).Info("producer started", "http_addr", public.Addr().String(), "admin_addr", admin.Addr().String())
		kafka := check{"kafka", gateway.Ready}
		roles.run("asking for Kafka", func(ctx context.Context) error { askUntilReady(ctx, kafka, log); return nil })
		roles.serve("admin", admin, adminHandler(ctx, reg, kafka), adminServing())
		roles.serve("webhooks", public, gateway.Handler(), serving{webhookConnections(), c.HTTPIdleTimeout, c.ShutdownDelay, webhookDrain})
		return nil
	})
	if err == nil {
		flush()
		log.Info("producer stopped")
	}
	return err
}

// newGateway makes a producer whose metrics are in reg, and its Kafka client's in
// kafkaReg.
func newGateway(life *lifecycle, c config, reg, kafkaReg prometheus.Registerer) (*producer.Producer, error) {
	kafka, err := kafkaOptions(c, kafkaReg, life.log)
	if err != nil {
		return nil, err
	}
	alone, err := kafkaOptions(c, nil, life.log)
	if err != nil {
		return nil, err
	}
	p, err := producer.New(producer.Options{
		Kafka: kafka, Alone: alone, Topic: c.KafkaTopic, DeadLetterTopic: c.KafkaDeadLetterTopic,
		Endpoints: c.endpoints, Registerer: reg, Logger: life.log,
	})
	if err != nil {
		return nil, err
	}
	life.onEnd("Kafka connections", 0, func() error {
		start := time.Now()
		p.Close()
		life.log.Info("Kafka connections closed", "duration", since(start))
		return nil
	})
	return p, nil
}
