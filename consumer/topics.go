package consumer

import (
	"context"
	"errors"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// warnOfCompaction warns of topics that Kafka compacts. It returns false if that is not
// known yet. A member that may not ask stays silent: migrate compares the topics as well.
func (c *Consumer) warnOfCompaction(ctx context.Context) (known bool) {
	ctx, cancel := context.WithTimeout(ctx, lagInterval)
	defer cancel()
	described, err := kadm.NewClient(c.client).DescribeTopicConfigs(ctx, c.topic, c.deadLetterTopic)
	if err != nil {
		return false
	}
	known = true
	for _, topic := range described {
		if errors.Is(topic.Err, kerr.UnknownTopicOrPartition) {
			known = false
		}
		for _, config := range topic.Configs {
			if config.Key == "cleanup.policy" && strings.Contains(config.MaybeValue(), "compact") {
				c.log.Warn("topic is compacted: of the records of an email, Kafka removes all but the newest, whether they have been read or not; set the topic's cleanup.policy to delete",
					"group", c.group, "topic", topic.Name)
			}
		}
	}
	return known
}
