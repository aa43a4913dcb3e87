package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kerr"
)

// maxAskingPause bounds the pause between two questions, while Kafka is not there.
const maxAskingPause = 30 * time.Second

// askUntilReady asks until Kafka is ready for webhooks, or ctx ends. It logs why it is not,
// once for each of the two reasons, unreachable and not set up, and when it is at last. The
// client dials no broker before the first webhook, which is late to learn of a wrong
// KAFKA_BROKERS.
func askUntilReady(ctx context.Context, kafka check, log *slog.Logger) {
	start := time.Now()
	tries := 0
	said, saidMissing := false, false
	_, _ = backoff.Retry(ctx, func() (struct{}, error) {
		tries++
		asking, cancel := context.WithTimeout(ctx, readyTimeout)
		defer cancel()
		err := kafka.answer(asking)
		missing := errors.Is(err, kerr.UnknownTopicOrPartition)
		switch {
		case ctx.Err() != nil: // no answer any more
		case err != nil && (!said || missing != saidMissing):
			said, saidMissing = true, missing
			log.Warn("Kafka accepts no webhooks: they are answered 503 until it does; still trying", "error", err)
		case err == nil && said:
			log.Info("Kafka accepts webhooks", "duration", since(start), "tries", tries)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 500 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 1.5, MaxInterval: maxAskingPause,
	}), backoff.WithMaxElapsedTime(0))
}
