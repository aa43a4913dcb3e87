package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/tracking"
)

const (
	// eventMaxBytes is Kafka's default for a record batch. The largest webhook takes a
	// quarter of it.
	eventMaxBytes = 1<<20 + 12

	// eventRetention is the least, in ms, that a group may be away without losing events.
	// Kafka's default is a week.
	eventRetention = 24 * 60 * 60 * 1000

	// deadLetterRetention is a month, in ms, to investigate what was dropped.
	deadLetterRetention = 30 * 24 * 60 * 60 * 1000
)

// topic is how a topic should be set up.
type topic struct {
	name       string
	partitions int32
	replicas   int16 // 0: the broker's default
	configs    map[string]string
	atLeast    map[string]int // settings of which more is fine, or -1, without limit
}

func topics(c config) []topic {
	// Compaction would remove all but the newest event of an email, counted or not.
	events := topic{c.KafkaTopic, c.KafkaPartitions, c.KafkaReplicationFactor, map[string]string{
		"cleanup.policy":    "delete",
		"max.message.bytes": strconv.Itoa(eventMaxBytes),
	}, map[string]int{"max.message.bytes": eventMaxBytes, "retention.ms": eventRetention}}
	deadLetters := topic{c.KafkaDeadLetterTopic, 1, c.KafkaReplicationFactor, map[string]string{
		"cleanup.policy":    "delete",
		"max.message.bytes": strconv.Itoa(tracking.DeadLetterMaxBytes),
		"retention.ms":      strconv.Itoa(deadLetterRetention),
	}, map[string]int{"max.message.bytes": tracking.DeadLetterMaxBytes, "retention.ms": deadLetterRetention}}
	if c.KafkaReplicationFactor >= 3 {
		// With the broker's default of 1, acks=all would be content with a single
		// replica while the others are away.
		events.configs["min.insync.replicas"] = "2"
		deadLetters.configs["min.insync.replicas"] = "2"
	}
	return []topic{events, deadLetters}
}

// createTopics creates the missing topics. It leaves existing ones as they are, and
// logs how they differ.
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
	ctx, cancel := context.WithTimeout(ctx, c.MigrateTimeout)
	defer cancel()
	admin := kadm.NewClient(client)
	brokers := strings.Join(c.KafkaBrokers, ",")
	for _, t := range topics(c) {
		configs := make(map[string]*string)
		for name, value := range t.configs {
			configs[name] = &value
		}
		replicas := t.replicas
		if replicas == 0 {
			replicas = -1 // Kafka's number for its default
		}
		_, err := admin.CreateTopic(ctx, t.partitions, replicas, configs, t.name)
		switch {
		case err == nil:
			log.Info("topic created", "topic", t.name)
		case errors.Is(err, kerr.TopicAlreadyExists):
			differs, err := t.differs(ctx, admin)
			if err != nil {
				log.Warn("topic exists, and is left as it is: its settings could not be checked", "topic", t.name, "error", err)
			} else if len(differs) > 0 {
				log.Warn("topic exists, and is left as it is: it differs from what migrate would create", "topic", t.name, "differs", differs)
			}
		case errors.As(err, new(*kerr.Error)): // the broker's own answer
			return fmt.Errorf("create Kafka topic %q on %s: %w", t.name, brokers, saslHint(err))
		case c.KafkaSASLMechanism != "": // a broker that hangs up may have refused the password
			return fmt.Errorf("create Kafka topic %q on %s: %w: check KAFKA_BROKERS, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, and that Kafka runs there", t.name, brokers, err)
		default:
			return fmt.Errorf("create Kafka topic %q on %s: %w: check KAFKA_BROKERS, and that Kafka runs there", t.name, brokers, err)
		}
	}
	return nil
}

// differs lists how the existing topic differs from t, apart from what is left to the
// broker.
func (t topic) differs(ctx context.Context, admin *kadm.Client) (list []string, err error) {
	compare := func(what, is, want string) {
		if is != want {
			list = append(list, fmt.Sprintf("%s is %s, not %s", what, is, want))
		}
	}
	found, err := admin.ListTopics(ctx, t.name)
	if err = cmp.Or(err, found[t.name].Err); err != nil {
		return nil, fmt.Errorf("list it: %w", err)
	}
	compare("partitions", strconv.Itoa(len(found[t.name].Partitions)), strconv.Itoa(int(t.partitions)))
	if t.replicas > 0 {
		compare("replication factor", strconv.Itoa(found[t.name].Partitions.NumReplicas()), strconv.Itoa(int(t.replicas)))
	}
	described, err := admin.DescribeTopicConfigs(ctx, t.name)
	resource, onErr := described.On(t.name, nil)
	if err = cmp.Or(err, onErr, resource.Err); err != nil {
		return nil, fmt.Errorf("ask for its settings: %w", err)
	}
	is := make(map[string]string)
	for _, config := range resource.Configs {
		is[config.Key] = config.MaybeValue()
	}
	for _, name := range slices.Sorted(maps.Keys(t.configs)) {
		if _, isLeast := t.atLeast[name]; !isLeast {
			compare(name, is[name], t.configs[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.atLeast)) {
		if n, err := strconv.Atoi(is[name]); err != nil || n < t.atLeast[name] && n != -1 {
			list = append(list, fmt.Sprintf("%s is %s, less than %d", name, is[name], t.atLeast[name]))
		}
	}
	return list, nil
}
