package consumer

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// oldestTimeout bounds the asking for the ages of records. With lagInterval for the
	// lag itself, a round ends before the last lag is too old to be shown.
	oldestTimeout = 2 * time.Second

	// fetchMaxWait is how long a broker holds back a fetch that finds nothing. It answers
	// the requests of a connection one after the other, so one for an age waits that long.
	fetchMaxWait = 500 * time.Millisecond
)

// oldest is the first record of a partition that is not committed.
type oldest struct {
	offset int64
	since  time.Time // its timestamp, or when this member first saw it waiting
	isRead bool      // since is its timestamp
	next   int64     // the offset after its batch; 0 if not isRead
}

// findOldest fills in the oldest records of measured, all of which wait. It asks for each
// at most once, so a stuck partition costs nothing.
//
// The header of the batch has the time, so it is known even if nobody can read the batch.
// If it is not to be had either, since is when this member first saw the record: then the
// age is too low, but it still grows.
func (c *Consumer) findOldest(ctx context.Context, measured map[int32]*lag) {
	ctx, cancel := context.WithTimeout(ctx, oldestTimeout)
	defer cancel()
	var topic kadm.TopicDetail
	var asking sync.WaitGroup
	for p, l := range measured {
		if l.oldest.isRead {
			continue
		}
		if topic.Topic == "" {
			found, err := kadm.NewClient(c.client).ListTopics(ctx, c.topic)
			if err != nil || found[c.topic].Err != nil {
				return
			}
			topic = found[c.topic]
		}
		asking.Go(func() {
			c.readBatch(ctx, topic, p, &l.oldest)
		})
	}
	asking.Wait()
}

// readBatch reads the header of the batch that holds a record, or of the next one. Its
// time is the timestamp of its first record, or when the broker appended it, if the topic
// says so.
func (c *Consumer) readBatch(ctx context.Context, topic kadm.TopicDetail, partition int32, o *oldest) {
	request := kmsg.NewPtrFetchRequest()
	request.MinBytes, request.MaxBytes = 1, 1 // a whole batch comes all the same
	of := kmsg.NewFetchRequestTopic()
	of.Topic, of.TopicID = topic.Topic, topic.ID
	in := kmsg.NewFetchRequestTopicPartition()
	in.Partition, in.FetchOffset, in.PartitionMaxBytes = partition, o.offset, 1
	of.Partitions = append(of.Partitions, in)
	request.Topics = append(request.Topics, of)
	// The client closes the connection that this shares with its fetches, when it gives one
	// of those up to fetch from another offset.
	response, err := c.client.Broker(int(topic.Partitions[partition].Leader)).RetriableRequest(ctx, request)
	if err != nil {
		return
	}
	fetched := response.(*kmsg.FetchResponse)
	if len(fetched.Topics) != 1 || len(fetched.Topics[0].Partitions) != 1 {
		return
	}
	var batch kmsg.RecordBatch
	const magic, fromBroker = 2, 1 << 3
	if batch.ReadFrom(fetched.Topics[0].Partitions[0].RecordBatches) != nil || batch.Magic != magic {
		return
	}
	milli := batch.FirstTimestamp
	if batch.Attributes&fromBroker != 0 {
		milli = batch.MaxTimestamp
	}
	if milli > 0 {
		o.since, o.isRead = time.UnixMilli(milli), true
		o.next = batch.FirstOffset + int64(batch.LastOffsetDelta) + 1
	}
}
