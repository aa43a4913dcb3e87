package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	// A group is asked for what it has committed so often while there is much to
	// do, and when it is nearly done. Fifty times a second would take 4 % of two
	// cores, most of it the broker's.
	seldom = 100 * time.Millisecond
	often  = 5 * time.Millisecond

	// standstill is how long a group may commit nothing before the run is given up.
	standstill = time.Minute
)

// group is a number of real consumer processes that work a topic off.
type group struct {
	b     *bench
	kafka *kafka
	db    *database
	topic *topic
	name  string
	// Where members find the database, and what else they find.
	databaseURL string
	env         []string
	proxied     bool // the way to the database is by this process
	admin       *kadm.Client

	members []*member
	leaving sync.WaitGroup
}

// member is a consumer process.
type member struct {
	*process
	admin string // host:port
}

// newGroup makes a group without members, which has committed nothing. env are
// settings that its members have.
func (b *bench) newGroup(k *kafka, d *database, t *topic, databaseURL string, env ...string) *group {
	return &group{
		b: b, kafka: k, db: d, topic: t, name: fmt.Sprintf("bench-%d", time.Now().UnixNano()),
		env: append(kafkaEnv(k, t.name, deadLetterTopic), env...), databaseURL: databaseURL,
		admin: kadm.NewClient(k.client),
	}
}

// startMember starts a consumer as a member of that group. env says what it
// consumes.
func (b *bench) startMember(ctx context.Context, group, databaseURL string, env []string) (*member, error) {
	program, err := b.mailtally(ctx)
	if err != nil {
		return nil, err
	}
	m := &member{}
	if m.admin, err = freeAddr(); err != nil {
		return nil, err
	}
	env = append([]string{"KAFKA_GROUP=" + group, "DATABASE_URL=" + databaseURL, "ADMIN_ADDR=" + m.admin}, env...)
	m.process, err = b.start("consumer", env, program, "consumer")
	return m, err
}

// join starts a member of g.
func (g *group) join(ctx context.Context) error {
	m, err := g.b.startMember(ctx, g.name, g.databaseURL, g.env)
	if err != nil {
		return err
	}
	g.members = append(g.members, m)
	return nil
}

// joinAll starts n members.
func (g *group) joinAll(ctx context.Context, n int) error {
	for range n {
		if err := g.join(ctx); err != nil {
			return err
		}
	}
	return nil
}

// remove has the oldest member leave: as asked, in its own time, or as a power
// cut would have it.
func (g *group) remove(kill bool) {
	m := g.members[0]
	g.members = g.members[1:]
	if kill {
		m.kill()
	} else {
		g.leaving.Go(m.stop)
	}
}

// end ends all members. Their last batches are committed.
func (g *group) end() {
	for len(g.members) > 0 {
		g.remove(false)
	}
	g.leaving.Wait()
}

// settled tells whether so many members share all partitions among themselves.
func (g *group) settled(ctx context.Context, members int) (bool, error) {
	groups, err := g.admin.DescribeGroups(ctx, g.name)
	if err != nil {
		return false, fmt.Errorf("describe group %q: %w", g.name, err)
	}
	busy, assigned := 0, 0
	for _, m := range groups[g.name].Members {
		own := 0
		if a, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range a.Topics {
				own += len(t.Partitions)
			}
		}
		if assigned += own; own > 0 {
			busy++
		}
	}
	return groups[g.name].State == "Stable" && busy == members && assigned == len(g.topic.partitions), nil
}

// progress is what a group had committed at some time.
type progress struct {
	at      time.Time
	offsets offsets
	events  int64
}

// until follows the group until enough says so, and gives the progress that it
// said so of. A group that stands still is an error.
func (g *group) until(ctx context.Context, enough func(progress) (bool, error)) (progress, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var first, moved progress
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return moved, ctx.Err()
		}
		o, err := g.topic.committed(ctx, g.admin, g.name)
		now := progress{time.Now(), o, o.sum()}
		enoughNow := false
		if err == nil {
			enoughNow, err = enough(now)
		}
		// The broker may have no coordinator for the group yet, or another one.
		if err != nil && !kerr.IsRetriable(err) || enoughNow {
			return now, err
		}
		if first.at.IsZero() {
			first, moved = now, now
		}
		if now.events > moved.events {
			moved = now
		}
		for _, m := range g.members {
			select {
			case <-m.done:
				return now, fmt.Errorf("%s ended: %s", m.name, m.tail())
			default:
			}
		}
		if idle := now.at.Sub(moved.at); idle > standstill {
			return now, fmt.Errorf("group %q has committed nothing for %s, after %d events: %s", g.name, idle.Round(time.Second), now.events, g.tails())
		}
		timer.Reset(g.pause(first, now))
	}
}

// pause is how long to wait before the group is asked again: half the time that
// what is left should take, within bounds.
func (g *group) pause(first, now progress) time.Duration {
	if now.events <= first.events {
		return seldom
	}
	perEvent := float64(now.at.Sub(first.at)) / float64(now.events-first.events)
	left := perEvent * float64(int64(len(g.topic.events))-now.events)
	return min(max(time.Duration(left/2), often), seldom)
}

// begun is enough for the first committed rows.
func begun(p progress) (bool, error) { return p.events > 0, nil }

// done is enough for all of the topic.
func (g *group) done(p progress) (bool, error) { return p.events >= int64(len(g.topic.events)), nil }

func (g *group) tails() string {
	var all strings.Builder
	for _, m := range g.members {
		all.WriteString("\n" + m.tail())
	}
	return all.String()
}

// cpuTimes is the CPU time that each part of the pipe has used.
type cpuTimes struct{ kafka, postgres, members, proxy time.Duration }

func (g *group) cpuTimes() (t cpuTimes, err error) {
	if t.kafka, err = g.kafka.cpu(); err != nil {
		return t, err
	}
	if t.postgres, err = cpu(g.db.Pid()); err != nil {
		return t, err
	}
	if g.proxied {
		if t.proxy, err = ownCPU(); err != nil {
			return t, err
		}
	}
	for _, m := range g.members {
		used, err := cpu(m.cmd.Process.Pid)
		if err != nil {
			return t, fmt.Errorf("%w: %s", err, m.tail())
		}
		t.members += used
	}
	return t, nil
}

// ownCPU is the CPU time that this process has used.
func ownCPU() (time.Duration, error) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0, fmt.Errorf("ask for the CPU time of this process: %w", err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), nil
}
