package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	farDelay = 5 * time.Millisecond // each way
	farAsked = 20                   // how often the distance is measured
)

const farText = `
A database that is 10 ms away: a proxy between the members and PostgreSQL hands on what it gets 5 ms later, in both directions and without a limit to what is under way. Near is the same proxy without the delay. SELECT 1 is the median of %d by the proxy, on a connection that is open, before the members come. The proxy is in the program that measures: its CPU time is the proxy's and that of the looks at the group's offsets.

From Kafka to committed rows as in the part pipe, over %d partitions and out of the middle of a stream; a run is measured from when all members share the partitions until %s later, or until %s webhooks are done. The rows that are there by the end are checked. One run before these is not measured: the broker's Java compiles.

%s

%s %s`

const (
	farUsual = `Default settings. All members, the broker, PostgreSQL and the proxy share the machine: a member that hides the distance well uses its cores up alone, and then there is nothing left for others to gain.`

	farWaiting = `That members do not wait for each other shows where a member mostly waits for its database, as on a machine of its own: here with CONSUMER_MAX_BATCH=%d and CONSUMER_WRITERS=1, which nobody should set, so that each waits for a round trip every few events.`
)

// farRun is one of the things compared.
type farRun struct {
	name    string
	delay   time.Duration
	members int
	env     []string
	row     row
}

// far measures what a distant database costs.
func far(ctx context.Context, b *bench) error {
	d, err := b.postgres(ctx, "far", nil)
	if err != nil {
		return err
	}
	defer d.stop()
	k, err := b.kafka(ctx, "far", 1)
	if err != nil {
		return err
	}
	defer k.stop()
	// Eight members take some seconds until they share the partitions, and the
	// first of them work meanwhile.
	n, long, sizes := 2_500_000, 3*time.Second, []int{1, 8}
	if b.full {
		n, long, sizes = 4_000_000, 10*time.Second, []int{1, 2, 4, 8}
	}
	const partitions = 16 // two each for eight members
	t, err := fill(ctx, k.client, "far", partitions, steady(n, time.Now()))
	if err != nil {
		return err
	}

	const batch = 50
	usual := []*farRun{{name: "near, 1 member", members: 1}}
	var waiting []*farRun
	for _, size := range sizes {
		usual = append(usual, &farRun{name: "far, " + members(size), delay: farDelay, members: size})
		waiting = append(waiting, &farRun{name: "far, " + members(size), delay: farDelay, members: size,
			env: []string{fmt.Sprint("CONSUMER_MAX_BATCH=", batch), "CONSUMER_WRITERS=1"}})
	}
	if err := b.atDistance(ctx, k, d, t, &farRun{name: "warm-up", members: 1}, long); err != nil {
		return err
	}
	all := slices.Concat(usual, waiting)
	for round := range b.rounds {
		for i := range all {
			if err := b.atDistance(ctx, k, d, t, all[(i+round)%len(all)], long); err != nil {
				return err
			}
		}
	}
	report := func(title, why, ratio string, runs []*farRun) []row {
		var rows []row
		for _, r := range runs {
			if r != runs[0] {
				r.row.ratio(ratio, "rate", &runs[0].row)
			}
			rows = append(rows, r.row)
		}
		b.report.add(table{Part: "far", Title: title, Rows: rows,
			Text: fmt.Sprintf(farText, farAsked, partitions, long, number(float64(n)), why, settingsText, kafkaText)})
		return rows
	}
	rows := report("a database 10 ms away", farUsual, "to near", usual)
	b.report.chart("far", "Events a second to a database 10 ms away", rateBars(rows))
	report("members that wait for a database 10 ms away", fmt.Sprintf(farWaiting, batch), "to one", waiting)
	return nil
}

// atDistance measures a group on a fresh database, for so long.
func (b *bench) atDistance(ctx context.Context, k *kafka, d *database, t *topic, r *farRun, long time.Duration) error {
	r.row.Name = r.name
	pool, err := d.fresh(ctx, 2)
	if err != nil {
		return err
	}
	defer pool.Close()
	u, err := url.Parse(d.URL("bench"))
	if err != nil {
		return err
	}
	way, err := newDistance(u.Host, r.delay)
	if err != nil {
		return err
	}
	defer way.close()
	databaseURL, err := way.to(d.URL("bench"))
	if err != nil {
		return err
	}
	roundTrip, err := answerTime(ctx, databaseURL)
	if err != nil {
		return err
	}
	g := b.newGroup(k, d, t, databaseURL, r.env...)
	g.proxied = true
	defer g.end()
	defer undisturbed()() // the proxy, by what the topic's events are
	if err := g.joinAll(ctx, r.members); err != nil {
		return err
	}
	first, err := g.until(ctx, func(p progress) (bool, error) {
		if done, _ := g.done(p); done {
			return true, nil
		}
		if p.events == 0 {
			return false, nil
		}
		return g.settled(ctx, r.members)
	})
	if err != nil {
		return err
	}
	if done, _ := g.done(first); done {
		r.row.remark("The work was done once before all members shared it: a round is missing.")
		g.end()
		return g.check(ctx, pool, &r.row)
	}
	s, err := g.stretch(ctx, first, func(p progress) (bool, error) {
		done, _ := g.done(p)
		return done || p.at.Sub(first.at) >= long, nil
	})
	if err != nil {
		return err
	}
	b.log.Info("worked off", "run", r.name, "settings", r.env, "rate", number(s.rate()), "seconds", number(s.seconds()))
	r.row.measured("SELECT 1", "ms", roundTrip)
	s.report(&r.row)
	g.end()
	return g.check(ctx, pool, &r.row)
}

// answerTime is how long a database takes to answer, in ms: the median of a few.
func answerTime(ctx context.Context, url string) (float64, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, fmt.Errorf("connect to measure the distance: %w", err)
	}
	defer conn.Close(ctx)
	var took []float64
	for range farAsked {
		start := time.Now()
		// Without a prepared statement, which would be made at the first.
		if _, err := conn.Exec(ctx, "SELECT 1"); err != nil {
			return 0, fmt.Errorf("measure the distance: %w", err)
		}
		took = append(took, float64(time.Since(start).Microseconds())/1000)
	}
	return median(took), nil
}
