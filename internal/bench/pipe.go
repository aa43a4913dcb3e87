package main

import (
	"context"
	"fmt"
	"time"
)

const pipeText = `
From %s webhook bodies of 1 KB, which lie in %d partitions of Apache Kafka, to committed rows: the real consumer processes with their default settings, on a PostgreSQL and a Kafka that share the machine with them. The bodies tell an arrival-ordered stream of 3.2 events an email, 2.8 %% of them redelivered; keys, headers and compression are the producer's, its batches are smaller than these, which were written as fast as Kafka takes them. Each run is a new consumer group on a fresh database.

%s The rebalances in which the members come to share the partitions are in it.

%s %s`

// pipe measures the path from Kafka to committed rows.
func pipe(ctx context.Context, b *bench) error {
	n := pick(b, 1_000_000, 3_000_000)
	t, err := b.kafka.filled(ctx, "pipe", partitions, stream(n, time.Now()), resendBody)
	if err != nil {
		return err
	}
	if err := b.drain(ctx, t, 1, &row{name: "warm-up"}); err != nil {
		return err
	}
	sizes, rows := []int{1, 2, 4}, []row{{name: "1 member"}, {name: "2 members"}, {name: "4 members"}}
	if err := b.interleave(rows, func(i int) error { return b.drain(ctx, t, sizes[i], &rows[i]) }); err != nil {
		return err
	}
	for i := range rows {
		rows[i].ratio("to one", rows[i].values[eventRate], rows[0].values[eventRate])
	}
	b.report.add("pipe: Kafka to committed rows", fmt.Sprintf(pipeText, count(n), partitions, timingText, settingsText, kafkaText), rows)
	return nil
}
