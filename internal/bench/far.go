package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/mailtally/mailtally/internal/faults"
)

const farText = `
A database that is 10 ms away: a proxy between the members and PostgreSQL hands on what it gets 5 ms later, in both directions and without a limit to what is under way. Near is the same proxy without the delay. The proxy is in the program that measures: its CPU time is the proxy's and that of the looks at the group's offsets.

From Kafka to committed rows as in the part pipe, over %d partitions and out of the middle of a stream; a run is measured from when all members share the partitions until %s later, or until %s webhooks are done. The rows that are there by the end are checked. One run before these is not measured: the broker's Java compiles.

All members, the broker, PostgreSQL and the proxy share the machine: a member that hides the distance well uses its cores up alone, and then there is nothing left for others to gain.

%s %s`

// far measures what a distant database costs.
func far(ctx context.Context, b *bench) error {
	// Eight members take some seconds to share the partitions, and the first ones are
	// already working.
	n, long := pick(b, 2_500_000, 4_000_000), pick(b, 3*time.Second, 10*time.Second)
	const partitions = 16 // two each for eight members
	t, err := b.kafka.filled(ctx, "far", partitions, steady(n, time.Now()), resendBody)
	if err != nil {
		return err
	}
	delays, members := []time.Duration{0, 5 * time.Millisecond, 5 * time.Millisecond}, []int{1, 1, 8}
	rows := []row{{name: "near, 1 member"}, {name: "far, 1 member"}, {name: "far, 8 members"}}
	if err := b.atDistance(ctx, t, delays[0], members[0], long, &row{name: "warm-up"}); err != nil {
		return err
	}
	if err := b.interleave(rows, func(i int) error { return b.atDistance(ctx, t, delays[i], members[i], long, &rows[i]) }); err != nil {
		return err
	}
	for i := range rows {
		rows[i].ratio("to near", rows[i].values[eventRate], rows[0].values[eventRate])
	}
	b.report.add("far: a database 10 ms away", fmt.Sprintf(farText, partitions, long, count(n), settingsText, kafkaText), rows)
	return nil
}

// atDistance measures a group on a fresh database, for the given time.
func (b *bench) atDistance(ctx context.Context, t *topic, delay time.Duration, members int, long time.Duration, r *row) error {
	pool, err := b.db.fresh(ctx, 2)
	if err != nil {
		return err
	}
	defer pool.Close()
	u, err := url.Parse(b.db.URL("bench"))
	if err != nil {
		return err
	}
	way, err := faults.Distance(u.Host, delay)
	if err != nil {
		return err
	}
	defer way.Close()
	u.Host = way.Addr()
	g := b.group(pool, t)
	g.databaseURL = u.String()
	defer undisturbed()() // the proxy, by what the topic's events are
	return g.work(ctx, members, func(p progress) bool { return p.events > 0 && g.shared(ctx) }, long, r)
}
