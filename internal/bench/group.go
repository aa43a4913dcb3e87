package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/mailtally/mailtally/tracking"
)

const (
	// The intervals at which a group's committed offsets are read: seldom while much is
	// left to do, often over the last tenth. Fifty times a second throughout would take
	// 4 % of two cores, most of it the broker's.
	seldom = 100 * time.Millisecond
	often  = 10 * time.Millisecond

	// standstill is how long a group may commit nothing before the run is abandoned.
	standstill = time.Minute

	eventRate = "rate, events/s"
)

const timingText = "The time is from the first committed events to the last, as the group's committed offsets tell, which are asked for ten times a second, and more often in the end: an offset is committed after its rows. CPU time is that of all processes of each part in between, resident a member's peak since it began. The final rows are checked. One run before these is not measured: the broker's Java compiles."

// group is a number of mailtally's consumers with their default settings.
type group struct {
	b           *bench
	pool        *pgxpool.Pool // to the database that the members write
	databaseURL string        // by which they find it
	topic       *topic
	name        string
	members     []*process
}

// group makes one without members, which has committed nothing.
func (b *bench) group(pool *pgxpool.Pool, t *topic) *group {
	return &group{b: b, pool: pool, databaseURL: b.db.URL("bench"), topic: t, name: fmt.Sprintf("bench-%d", time.Now().UnixNano())}
}

// work has members consume the topic. It adds to r the cost from when started returns
// true until the work is done or long has passed, and checks the final rows.
func (g *group) work(ctx context.Context, members int, started func(progress) bool, long time.Duration, r *row) error {
	defer g.end()
	for range members {
		m, err := g.b.mailtally(ctx, "consumer", append(g.topic.env(), "KAFKA_GROUP="+g.name, "DATABASE_URL="+g.databaseURL)...)
		if err != nil {
			return err
		}
		g.members = append(g.members, m)
	}
	done := func(p progress) bool { return p.events >= len(g.topic.events) }
	first, err := g.follow(ctx, func(p progress) bool { return done(p) || started(p) })
	if err == nil && done(first) {
		err = errors.New("the work was done before it could be measured")
	}
	if err == nil {
		err = g.measure(ctx, r, first, func(p progress) bool { return done(p) || p.at.Sub(first.at) >= long })
	}
	if err == nil {
		g.end()
		err = g.check(ctx, r)
	}
	return err
}

// end ends all members. Their last batches are committed.
func (g *group) end() {
	var leaving sync.WaitGroup
	for _, m := range g.members {
		leaving.Go(m.stop)
	}
	leaving.Wait()
	g.members = nil
}

// shared tells whether the partitions are assigned to all members.
func (g *group) shared(ctx context.Context) bool {
	groups, _ := g.b.kafka.admin.DescribeGroups(ctx, g.name) // after an error there is none
	busy, assigned := 0, 0
	for _, m := range groups[g.name].Members {
		if a, ok := m.Assigned.AsConsumer(); ok && len(a.Topics) > 0 {
			assigned += len(a.Topics[0].Partitions)
			busy++
		}
	}
	return groups[g.name].State == "Stable" && busy == len(g.members) && assigned == len(g.topic.places)
}

// progress is how many events a group had committed at some time.
type progress struct {
	at     time.Time
	events int
}

// follow polls the group until enough returns true, and returns the progress that it
// was called with. A group that makes no progress is an error.
func (g *group) follow(ctx context.Context, enough func(progress) bool) (progress, error) {
	var moved progress
	for {
		offsets, err := g.topic.committed(ctx, g.name)
		now := progress{at: time.Now()}
		for _, offset := range offsets {
			now.events += int(offset)
		}
		// The broker may have no coordinator for the group yet.
		if err != nil && !kerr.IsRetriable(err) || err == nil && enough(now) {
			return now, err
		}
		if moved.at.IsZero() || now.events > moved.events {
			moved = now
		}
		if now.at.Sub(moved.at) > standstill { // because a member has ended, say
			return now, fmt.Errorf("the group has committed nothing for %s, after %d events: %s", standstill, now.events, g.members[0].tail())
		}
		wait := seldom
		if now.events >= len(g.topic.events)*9/10 {
			wait = often
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return now, ctx.Err()
		}
	}
}

// drain has a group of members consume all of t into a fresh database.
func (b *bench) drain(ctx context.Context, t *topic, members int, r *row) error {
	pool, err := b.db.fresh(ctx, 2)
	if err != nil {
		return err
	}
	defer pool.Close()
	return b.group(pool, t).work(ctx, members, func(p progress) bool { return p.events > 0 }, time.Hour, r)
}

// measure adds to r what the group does between from, which is now, and when enough
// returns true.
func (g *group) measure(ctx context.Context, r *row, from progress, enough func(progress) bool) error {
	before, err := g.used()
	if err != nil {
		return err
	}
	to, err := g.follow(ctx, enough)
	if err != nil {
		return err
	}
	after, err := g.used()
	if err != nil {
		return err
	}
	events, seconds, busy := float64(to.events-from.events), to.at.Sub(from.at).Seconds(), 0.0
	r.add(eventRate, events/seconds)
	parts := []string{"members", "PostgreSQL", "Kafka", "proxy"}
	if g.databaseURL == g.b.db.URL("bench") {
		parts = parts[:3]
	}
	for i, name := range parts {
		used := after[i] - before[i]
		busy += used
		r.add(name+", CPU s a million", used/events*1e6)
	}
	r.add("cores busy", busy/seconds)
	var resident, batches, inBatches float64
	for _, m := range g.members {
		mb, err := m.residentMB()
		resident = max(resident, mb)
		err = errors.Join(err, m.metric(ctx, "mailtally_apply_batch_events_count", &batches), m.metric(ctx, "mailtally_apply_batch_events_sum", &inBatches))
		if err != nil {
			return fmt.Errorf("%w: %s", err, m.tail())
		}
	}
	r.add("events a transaction", inBatches/batches)
	r.add("most resident of a member, MB", resident)
	return nil
}

// used is the CPU time that members, PostgreSQL, Kafka and the proxy (which is this
// process) have used.
func (g *group) used() (times [4]float64, err error) {
	for _, m := range g.members {
		used, failure := cpu(m.Pid())
		times[0] += used
		err = errors.Join(err, failure)
	}
	for i, pid := range []int{g.b.db.Pid(), g.b.kafka.Pid(), os.Getpid()} {
		var failure error
		times[1+i], failure = cpu(pid)
		err = errors.Join(err, failure)
	}
	return times, err
}

// check compares the rows with the topic, as of the committed offsets. All events below
// them must be stored. What lies above them may be stored too, since rows are committed
// first: then it must be complete.
func (g *group) check(ctx context.Context, r *row) error {
	offsets, err := g.topic.committed(ctx, g.name)
	if err != nil {
		return err
	}
	rows, _ := g.pool.Query(ctx, "SELECT event_id FROM mailtally.email_event") // whose error is the rows'
	there := make(map[string]bool)
	var id string
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { there[id] = true; return nil }); err != nil {
		return fmt.Errorf("read the events that are there: %w", err)
	}
	lost := 0
	var whole []tracking.Event
	for p, indexes := range g.topic.places {
		for at, i := range indexes {
			if e := g.topic.events[i]; there[e.EventID] {
				whole = append(whole, e)
			} else if int64(at) < offsets[p] {
				lost++
			}
		}
	}
	got, err := queryTallies(ctx, g.pool, ourTallies)
	if missing := tallied(whole).minus(got); err == nil && (lost > 0 || missing != (tallies{})) {
		g.b.wrong(fmt.Sprintf("%s, topic %s: %d events lost; of the others missing %+v", r.name, g.topic.name, lost, missing))
	}
	return err
}
