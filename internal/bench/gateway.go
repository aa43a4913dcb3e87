package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// gatewayRun is one way to load a producer.
type gatewayRun struct {
	name        string
	connections int
	anew        bool
	rate        float64
}

var (
	gatewayMost = []gatewayRun{
		{name: "1 connection", connections: 1},
		{name: "8 connections", connections: 8},
		{name: "64 connections", connections: 64},
		{name: "256 connections", connections: 256},
		{name: "1,000 connections", connections: 1000},
		{name: "2,000 connections", connections: 2000},
		{name: "64 at a time, each a new connection", connections: 64, anew: true},
		{name: "256 at a time, each a new connection", connections: 256, anew: true},
	}
	gatewayRates = []gatewayRun{
		{name: "2,000/s", connections: 256, rate: 2000},
		{name: "10,000/s", connections: 256, rate: 10_000},
		{name: "20,000/s", connections: 256, rate: 20_000},
	}
)

// gatewayPart measures webhooks until they are answered 2xx, which is when Kafka
// has them.
func gatewayPart(ctx context.Context, b *bench) error {
	broker, err := b.kafka(ctx, "gateway", 1)
	if err != nil {
		return err
	}
	defer broker.stop()
	most := table{Part: "gateway", Title: "webhooks acknowledged, as many as it can", Text: gatewayText +
		" Each connection sends its next webhook when the last is answered, for " + b.gatewayTime().String() + "."}
	rates := table{Part: "gateway", Title: "time to the answer, at a fixed rate", Text: gatewayText +
		" Webhooks fall due at random moments (a Poisson process) from 256 senders that do not wait for each other: the time counts from when a webhook was due, not from when a connection was free for it, for " + b.gatewayTime().String() + " of a run. p99.9 is left out where fewer than " + number(tailSamples) + " were measured."}
	runs := slices.Concat(gatewayMost, gatewayRates)
	rows := make([]row, len(runs))
	// The first after a start are not measured: the broker's Java compiles. With few
	// connections it gets many small requests, with many a few large ones.
	for _, connections := range []int{8, 256} {
		warmUp := gatewayRun{connections: connections}
		if err := b.loadGateway(ctx, broker, warmUp, new(row), fmt.Sprint("gateway-warm-up-", connections)); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
	}
	for round := range b.rounds {
		for k := range runs {
			i := (k + round) % len(runs)
			run := runs[i]
			rows[i].Name = run.name
			if err := b.loadGateway(ctx, broker, run, &rows[i], fmt.Sprintf("gateway-%d-%d", round, i)); err != nil {
				return fmt.Errorf("%s: %w", run.name, err)
			}
		}
	}
	most.Rows, rates.Rows = rows[:len(gatewayMost)], rows[len(gatewayMost):]
	b.report.add(most)
	b.report.add(rates)
	bars := make([]bar, len(gatewayMost))
	for i, r := range most.Rows {
		bars[i] = bar{name: r.Name, value: median(r.figure("webhooks/s", "").Values), own: true}
	}
	b.report.chart("gateway", "Webhooks a second, acknowledged by Kafka", bars)
	return nil
}

const gatewayText = "The producer process with its default settings, one broker and the load generator share the machine. Signed webhooks of 1 KB; a 2xx is a record with acks=all. After each run the topic holds as many records as there were 2xx. CPU is a webhook's. " + kafkaText

func (b *bench) gatewayTime() time.Duration {
	if b.full {
		return 10 * time.Second
	}
	return 2 * time.Second
}

// loadGateway does a run and adds its figures to the row.
func (b *bench) loadGateway(ctx context.Context, broker *kafka, run gatewayRun, r *row, topic string) (err error) {
	t, err := newTopics(ctx, broker, topic)
	if err != nil {
		return err
	}
	defer t.drop(ctx)
	g, err := b.gateway(ctx, t)
	if err != nil {
		return err
	}
	defer g.stop()
	requests, err := g.requests(20_000, run.anew)
	if err != nil {
		return err
	}
	l := generator{addr: g.addr, connections: run.connections, anew: run.anew, rate: run.rate, request: requests,
		warmup: b.gatewayTime() / 2, measured: b.gatewayTime()}
	var used []time.Duration
	var met *loaded
	both, bothCtx := errgroup.WithContext(ctx) // where the one fails, the other ends
	both.Go(func() (err error) {
		used, err = cpuWhile(bothCtx, l.warmup, l.measured, g.cmd.Process.Pid, broker.Pids()[0])
		return err
	})
	both.Go(func() (err error) {
		if met, err = l.run(bothCtx); err != nil {
			err = fmt.Errorf("%w: %s", err, g.tail())
		}
		return err
	})
	if err := both.Wait(); err != nil {
		return err
	}
	if err := t.holds(ctx, met.accepted(), total(met.answers)); err != nil {
		return err
	}
	resident, err := residentMB(g.cmd.Process.Pid)
	if err != nil {
		return err
	}
	r.measured("webhooks/s", "", float64(met.acknowledged)/l.measured.Seconds())
	r.measured("p50", "ms", met.ms(50))
	r.measured("p99", "ms", met.ms(99))
	if run.rate > 0 {
		r.figure("p99.9", "ms") // its column, even without a value
		if met.latency.TotalCount() >= tailSamples {
			r.measured("p99.9", "ms", met.ms(99.9))
		}
	}
	for i, name := range []string{"producer CPU", "broker CPU", "generator CPU"} {
		r.measured(name, "µs", float64(used[i].Microseconds())/float64(met.acknowledged))
	}
	r.measured("producer resident", "MB", resident)
	if met.accepted() < total(met.answers) {
		r.remark(fmt.Sprintf("Answers by status, 0 where the connection ended first: %v.", met.answers))
	}
	if met.unsent > 0 {
		r.remark(fmt.Sprintf("%d were due and not sent.", met.unsent))
	}
	return nil
}

// tailSamples is how many make a p99.9: below, it is that of five at the most.
const tailSamples = 5000

func total(counts map[int]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// cpuWhile gives the CPU time that the processes use, and last this one, from
// after the one time on for the other.
func cpuWhile(ctx context.Context, after, during time.Duration, pids ...int) ([]time.Duration, error) {
	now := func() ([]time.Duration, error) {
		var all []time.Duration
		for _, pid := range pids {
			used, err := cpu(pid)
			if err != nil {
				return nil, err
			}
			all = append(all, used)
		}
		own, err := ownCPU()
		return append(all, own), err
	}
	start, end := time.After(after), time.After(after+during)
	var before []time.Duration
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-start:
			var err error
			if before, err = now(); err != nil {
				return nil, err
			}
		case <-end:
			used, err := now()
			for i := range before {
				used[i] -= before[i]
			}
			return used, err
		}
	}
}
