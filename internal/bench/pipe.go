package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

const pipeText = `
From %s webhook bodies of 1 KB, which lie in %d partitions of Apache Kafka (%s), to committed rows: the real consumer processes with their default settings, on a PostgreSQL and a Kafka that share the machine with them. The bodies tell an arrival-ordered stream of 3.2 events an email, 2.8 %% of them redelivered; keys, headers and compression are the producer's, its batches are smaller than these, which were written as fast as Kafka takes them. Each run is a new consumer group on a fresh database.

The time is from the first committed events to the last, as the group's committed offsets tell (asked for ten times a second, and more often in the end): an offset is committed after its rows. The rebalances in which the members come to share the partitions are in it; "once shared" leaves them out, where a tenth of the work at least is left by then. CPU time is that of all processes of each part in between. The final rows are checked. One run before these is not measured: the broker's Java compiles.

%s %s`

// pipe measures the way from Kafka to committed rows.
func pipe(ctx context.Context, b *bench) error {
	d, err := b.postgres(ctx, "pipe", nil)
	if err != nil {
		return err
	}
	defer d.stop()
	if err := b.pipeOn(ctx, d, 1, []int{1, 2, 4}); err != nil || !b.full {
		return err
	}
	return b.pipeOn(ctx, d, 3, []int{1, 2})
}

// pipeOn is pipe on so many brokers, by groups of these sizes.
func (b *bench) pipeOn(ctx context.Context, d *database, brokers int, sizes []int) error {
	k, err := b.kafka(ctx, fmt.Sprint("pipe-", brokers), brokers)
	if err != nil {
		return err
	}
	defer k.stop()
	n := 1_000_000
	if b.full {
		n = 3_000_000
	}
	const partitions = 12
	t, err := fill(ctx, k.client, "pipe", partitions, stream(n, time.Now()))
	if err != nil {
		return err
	}
	rows := make([]row, len(sizes))
	for i, size := range sizes {
		rows[i].Name = members(size)
	}
	if err := b.drain(ctx, k, d, t, 1, &row{Name: "warm-up"}); err != nil {
		return err
	}
	for round := range b.rounds {
		for i := range sizes {
			i = (i + round) % len(sizes)
			if err := b.drain(ctx, k, d, t, sizes[i], &rows[i]); err != nil {
				return err
			}
		}
	}
	for i := range rows[1:] {
		rows[i+1].ratio("to one", "rate", &rows[0])
	}
	replicas := "one broker, one replica"
	if brokers > 1 {
		replicas = fmt.Sprintf("%d brokers, 3 replicas", brokers)
	}
	b.report.add(table{Part: "pipe", Title: "Kafka to committed rows, " + replicas, Rows: rows,
		Text: fmt.Sprintf(pipeText, number(float64(n)), partitions, replicas, settingsText, kafkaText)})
	if brokers > 1 {
		return nil
	}
	b.report.chart("pipe", "Events a second from Kafka to committed rows, bodies of 1 KB", rateBars(rows))
	if err := b.paced(ctx, k, d); err != nil {
		return err
	}
	if b.full {
		return b.backlog(ctx, k, d)
	}
	return nil
}

// rateBars are mailtally's rates.
func rateBars(rows []row) (bars []bar) {
	for _, r := range rows {
		bars = append(bars, bar{name: r.Name, value: median(r.figure("rate", "").Values), own: true})
	}
	return bars
}

func members(n int) string {
	if n == 1 {
		return "1 member"
	}
	return fmt.Sprintf("%d members", n)
}

// drain has a group of so many members work t off, and adds to r what it took.
func (b *bench) drain(ctx context.Context, k *kafka, d *database, t *topic, size int, r *row) error {
	pool, err := d.fresh(ctx, 2)
	if err != nil {
		return err
	}
	defer pool.Close()
	g := b.newGroup(k, d, t, d.URL("bench"))
	defer g.end()
	if err := g.joinAll(ctx, size); err != nil {
		return err
	}
	first, err := g.until(ctx, begun)
	if err != nil {
		return err
	}
	var shared *progress // once the members share the partitions
	s, err := g.stretch(ctx, first, func(p progress) (bool, error) {
		if shared == nil {
			if settled, err := g.settled(ctx, size); err != nil {
				return false, err
			} else if settled {
				shared = &p
			}
		}
		return g.done(p)
	})
	if err != nil {
		return err
	}
	b.log.Info("worked off", "members", size, "rate", number(s.rate()), "seconds", number(s.seconds()))
	s.report(r)
	// As it is, unless the members come too late for the work.
	if shared != nil && s.to.events-shared.events >= int64(len(t.events))/10 {
		r.measured("once shared", "events/s", stretch{from: *shared, to: s.to}.rate())
	}
	g.end()
	return g.check(ctx, pool, r)
}

const pacedText = `
One member with its default settings, while %s webhooks a second come into the topic for %s, each body about 1 KB, out of the middle of a stream like that. Resident is its peak, from its start.`

// paced measures a member at a steady rate.
func (b *bench) paced(ctx context.Context, k *kafka, d *database) error {
	const perSecond = 10_000
	long := 10 * time.Second
	if b.full {
		long = time.Minute
	}
	t := &topic{name: "paced", events: steady(perSecond*int(long/time.Second), time.Now()), partitions: make([][]int32, 12)}
	if err := createTopics(ctx, k.client, len(t.partitions), t.name, deadLetterTopic); err != nil {
		return err
	}
	pool, err := d.fresh(ctx, 2)
	if err != nil {
		return err
	}
	defer pool.Close()
	g := b.newGroup(k, d, t, d.URL("bench"))
	defer g.end()
	if err := g.join(ctx); err != nil {
		return err
	}
	if _, err := g.until(ctx, func(progress) (bool, error) { return g.settled(ctx, 1) }); err != nil {
		return err
	}
	var s stretch
	both, bothCtx := errgroup.WithContext(ctx) // where the one fails, the other ends
	both.Go(func() error { return t.produce(bothCtx, k.client, perSecond) })
	both.Go(func() error {
		first, err := g.until(bothCtx, begun)
		if err != nil {
			return err
		}
		s, err = g.stretch(bothCtx, first, g.done)
		return err
	})
	if err := both.Wait(); err != nil {
		return err
	}
	r := row{Name: "1 member"}
	s.report(&r)
	// The producer is this program, whose part of Kafka's work is not the pipe's.
	r.Figures = slices.DeleteFunc(r.Figures, func(f figure) bool { return f.Name == "Kafka" || f.Name == "cores busy" })
	g.end()
	if err := g.check(ctx, pool, &r); err != nil {
		return err
	}
	b.report.add(table{Part: "pipe", Title: "at 10,000 events a second", Rows: []row{r},
		Text: fmt.Sprintf(pacedText, number(perSecond), long)})
	return nil
}
