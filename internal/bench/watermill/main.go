// Command watermill is what a team would write with Watermill: a router whose
// handler decodes a webhook and counts it by one conditional UPDATE. The
// benchmarks run it beside mailtally, on the same topic and PostgreSQL.
//
// It is idiomatic and at its best: a consumer group, whose partitions Watermill
// consumes side by side, each of them message by message, which is its order
// guarantee. More handlers on the topic would share these partitions, and make
// nothing more parallel. Offsets are committed every second, after the handler,
// so that a message comes again after a kill; the UPDATE makes that harmless.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/internal/baseline"
	"github.com/mailtally/mailtally/tracking"
)

// connections is more than there are partitions, so that no message waits for
// one.
const connections = 16

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "watermill:", err)
		os.Exit(1)
	}
}

// run consumes until ctx ends. The environment's names are mailtally's.
func run(ctx context.Context, getenv func(string) string) error {
	config, err := pgxpool.ParseConfig(getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	config.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()

	log := watermill.NewSlogLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	client := kafka.DefaultSaramaSubscriberConfig()
	client.Version = sarama.V3_6_0_0 // Watermill's is older than Apache Kafka 4 understands
	client.Consumer.Offsets.Initial = sarama.OffsetOldest
	subscriber, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers:               strings.Split(getenv("KAFKA_BROKERS"), ","),
		ConsumerGroup:         getenv("KAFKA_GROUP"),
		Unmarshaler:           kafka.DefaultMarshaler{},
		OverwriteSaramaConfig: client,
	}, log)
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{}, log)
	if err != nil {
		return err
	}
	router.AddMiddleware(
		middleware.Retry{MaxRetries: 10, InitialInterval: 100 * time.Millisecond, MaxInterval: 5 * time.Second, Multiplier: 2, Logger: log}.Middleware,
		middleware.Recoverer,
	)
	router.AddConsumerHandler("count", getenv("KAFKA_TOPIC"), subscriber, func(m *message.Message) error {
		return count(m, pool)
	})
	return router.Run(ctx)
}

// count counts a message. One that cannot be read is passed over: there is no
// dead-letter topic here.
func count(m *message.Message, pool *pgxpool.Pool) error {
	receivedAt, err := time.Parse(time.RFC3339Nano, m.Metadata.Get("received-at"))
	if err != nil {
		return nil
	}
	e, err := tracking.DecodeResend(m.Metadata.Get("webhook-id"), receivedAt, m.Payload)
	if _, drop := errors.AsType[*tracking.DropError](err); drop {
		return nil
	}
	if err != nil {
		return err
	}
	return baseline.ConditionalUpdate(m.Context(), pool, e)
}
