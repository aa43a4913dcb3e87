package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

const gatewayText = "The producer process with its default settings, one broker and the load generator share the machine. Signed webhooks of 1 KB; a 2xx is a record with acks=all. After each run the topic holds as many records as there were 2xx. CPU is a webhook's. " + kafkaText

// gateway measures webhooks until they are answered 2xx, which is when Kafka has them.
func gateway(ctx context.Context, b *bench) error {
	long := pick(b, 2*time.Second, 10*time.Second)
	connections, rates := []int{1, 8, 64, 256, 1000, 2000, 256, 256, 256}, []float64{6: 2000, 7: 10_000, 8: 20_000}
	rows := []row{{name: "1"}, {name: "8"}, {name: "64"}, {name: "256"}, {name: "1,000"}, {name: "2,000"}, {name: "2,000/s"}, {name: "10,000/s"}, {name: "20,000/s"}}
	load := func(i int, r *row) error {
		return b.loadGateway(ctx, generator{connections: connections[i], rate: rates[i], warmup: long / 2, measured: long}, r)
	}
	// The first runs after a start are not measured: the broker's JIT is still
	// compiling. With few connections the broker gets many small requests, with many a
	// few large ones.
	for _, i := range []int{1, 3} {
		if err := load(i, &row{}); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
	}
	if err := b.interleave(rows, func(i int) error { return load(i, &rows[i]) }); err != nil {
		return err
	}
	b.report.add("gateway: webhooks acknowledged by a number of connections, as many as it can",
		gatewayText+fmt.Sprintf(" Each connection sends its next webhook when the last is answered, for %s.", long), rows[:6])
	b.report.add("gateway: time to the answer, at a fixed rate", gatewayText+
		fmt.Sprintf(" Webhooks fall due at random moments (a Poisson process) from 256 senders that do not wait for each other: the time counts from when a webhook was due, not from when a connection was free for it, for %s of a run. p99.9 is left out where fewer than %s were measured.", long, count(tailSamples)), rows[6:])
	return nil
}

// loadGateway does a run and adds its figures to the row.
func (b *bench) loadGateway(ctx context.Context, l generator, r *row) error {
	t, err := b.kafka.topic(ctx, fmt.Sprintf("gateway-%d", time.Now().UnixNano()), partitions)
	if err != nil {
		return err
	}
	p, err := b.mailtally(ctx, "producer", t.env()...)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := p.ready(ctx); err != nil {
		return err
	}
	l.addr, l.request = p.addr, p.prepared(stream(20_000, time.Now()))
	met, used, err := l.load(ctx, p.Pid(), b.kafka.Pid(), os.Getpid())
	if err != nil {
		return fmt.Errorf("%w: %s", err, p.tail())
	}
	if err := t.holds(ctx, met.sent); err != nil {
		return err
	}
	resident, err := p.residentMB()
	if err != nil {
		return err
	}
	r.add("webhooks/s", float64(met.acknowledged)/l.measured.Seconds())
	r.add("p50, ms", met.ms(.5))
	r.add("p99, ms", met.ms(.99))
	if l.rate > 0 && len(met.latencies) >= tailSamples {
		r.add("p99.9, ms", met.ms(.999))
	}
	for i, name := range []string{"producer CPU, µs", "broker CPU, µs", "generator CPU, µs"} {
		r.add(name, 1e6*used[i]/float64(met.acknowledged))
	}
	r.add("producer resident, MB", resident)
	r.add("due and not sent", float64(met.unsent))
	return nil
}
