package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

const backlogText = `
A backlog of %s webhooks out of the middle of a stream like that, worked off by one member which others join and leave, at one broker. A row is %s. The median is %s events/s. The least between the first and the last is %s, at %s; of those that begin more than %s after a change of members (after a kill, the session's %s more), it is %s.

Members that leave on SIGTERM commit what they have in hand first. A member that is killed keeps its partitions until its session times out: nobody works on them in the meantime, the others go on with theirs.`

const (
	backlogInterval = time.Second

	// A rebalance explains what comes so soon after it.
	rebalanceTime = 3 * time.Second
	// sessionTimeout is the consumers'.
	sessionTimeout = 15 * time.Second
)

// change is one of the group's members, when a share of the backlog is done.
type change struct {
	at   float64
	what string
	do   func(context.Context, *group) error
	kill bool // so that the partitions of one are nobody's until its session ends
}

func changes() []change {
	joins := func(n int) func(context.Context, *group) error {
		return func(ctx context.Context, g *group) error { return g.joinAll(ctx, n) }
	}
	leaves := func(kill bool) func(context.Context, *group) error {
		return func(_ context.Context, g *group) error { g.remove(kill); return nil }
	}
	return []change{
		{.10, "a second member joins", joins(1), false},
		{.22, "two more join", joins(2), false},
		{.40, "one leaves", leaves(false), false},
		{.52, "one is killed", leaves(true), true},
		{.80, "two join", joins(2), false},
	}
}

// backlog measures how a large one is worked off by members that come and go.
func (b *bench) backlog(ctx context.Context, k *kafka, d *database) error {
	const n = 5_000_000
	t, err := fill(ctx, k.client, "backlog", 12, steady(n, time.Now()))
	if err != nil {
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
	if _, err := g.until(ctx, begun); err != nil {
		return err
	}
	intervals, err := g.followed(ctx, changes())
	if err != nil {
		return err
	}
	g.end()
	rows := make([]row, len(intervals))
	for i, v := range intervals {
		rows[i].Name = v.name()
		rows[i].measured("rate", "events/s", v.rate())
		rows[i].measured("members", "", float64(v.members))
		rows[i].Note = strings.Join(v.changes, ", ")
	}
	if err := g.check(ctx, pool, &rows[len(rows)-1]); err != nil {
		return err
	}
	middle := intervals[1 : len(intervals)-1]
	var rates []float64
	var apart []interval
	for _, v := range middle {
		rates = append(rates, v.rate())
		if v.sinceChange > rebalanceTime {
			apart = append(apart, v)
		}
	}
	least := func(of []interval) interval {
		return slices.MinFunc(of, func(a, b interval) int { return int(a.rate() - b.rate()) })
	}
	leastApart := "none"
	if len(apart) > 0 {
		v := least(apart)
		leastApart = number(v.rate()) + ", at " + v.name()
	}
	b.report.add(table{Part: "pipe", Title: "a backlog, while members come and go", Rows: rows,
		Text: fmt.Sprintf(backlogText, number(n), backlogInterval, number(median(rates)),
			number(least(middle).rate()), least(middle).name(), rebalanceTime, sessionTimeout, leastApart)})
	return nil
}

// interval is a piece of the time in which a backlog is worked off.
type interval struct {
	start       time.Duration // since the first rows
	from, to    progress
	members     int
	changes     []string
	sinceChange time.Duration // at its start; below zero while a killed member keeps its partitions
}

func (v interval) rate() float64 {
	return float64(v.to.events-v.from.events) / v.to.at.Sub(v.from.at).Seconds()
}

func (v interval) name() string { return fmt.Sprintf("%.1f s", v.start.Seconds()) }

// followed cuts the time until the topic is done into intervals. Meanwhile it
// makes the changes when they are due.
func (g *group) followed(ctx context.Context, due []change) (intervals []interval, err error) {
	var start time.Time
	var now interval
	changed := time.Now()
	_, err = g.until(ctx, func(p progress) (bool, error) {
		if now.from.offsets == nil { // the first
			start, now.from = p.at, p
		}
		finished := p.events >= int64(len(g.topic.events))
		if finished || p.at.Sub(now.from.at) >= backlogInterval {
			now.to = p
			intervals = append(intervals, now)
			now = interval{start: p.at.Sub(start), from: p, sinceChange: p.at.Sub(changed)}
		}
		now.members = len(g.members)
		if len(due) > 0 && float64(p.events) >= due[0].at*float64(len(g.topic.events)) {
			now.changes = append(now.changes, due[0].what)
			if err := due[0].do(ctx, g); err != nil {
				return false, err
			}
			changed = time.Now()
			if due[0].kill {
				changed = changed.Add(sessionTimeout)
			}
			due = due[1:]
		}
		return finished, nil
	})
	return intervals, err
}
