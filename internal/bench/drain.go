package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// stretch is what a group did between two moments.
type stretch struct {
	from, to progress
	used     cpuTimes // in between
	perBatch float64  // events a committed transaction, since the members began
	peakMB   float64  // the most that a member had resident, since it began
}

func (s stretch) seconds() float64 { return s.to.at.Sub(s.from.at).Seconds() }
func (s stretch) events() float64  { return float64(s.to.events - s.from.events) }
func (s stretch) rate() float64    { return s.events() / s.seconds() }

// stretch measures the group from now to when enough says so.
func (g *group) stretch(ctx context.Context, from progress, enough func(progress) (bool, error)) (s stretch, err error) {
	s.from = from
	before, err := g.cpuTimes()
	if err != nil {
		return s, err
	}
	if s.to, err = g.until(ctx, enough); err != nil {
		return s, err
	}
	after, err := g.cpuTimes()
	if err != nil {
		return s, err
	}
	s.used = cpuTimes{after.kafka - before.kafka, after.postgres - before.postgres, after.members - before.members, after.proxy - before.proxy}
	for _, m := range g.members {
		mb, err := residentMB(m.cmd.Process.Pid)
		if err != nil {
			return s, fmt.Errorf("%s: %w: %s", m.name, err, m.tail())
		}
		s.peakMB = max(s.peakMB, mb)
	}
	s.perBatch, err = g.perBatch(ctx)
	return s, err
}

// report adds to r what was measured.
func (s stretch) report(r *row) {
	r.measured("rate", "events/s", s.rate())
	million := s.events() / 1e6
	r.measured("mailtally", "CPU s a million", s.used.members.Seconds()/million)
	r.measured("PostgreSQL", "CPU s a million", s.used.postgres.Seconds()/million)
	r.measured("Kafka", "CPU s a million", s.used.kafka.Seconds()/million)
	if s.used.proxy > 0 {
		r.measured("proxy", "CPU s a million", s.used.proxy.Seconds()/million)
	}
	r.measured("cores busy", "", (s.used.members+s.used.postgres+s.used.kafka+s.used.proxy).Seconds()/s.seconds())
	r.measured("events a transaction", "", s.perBatch)
	r.measured("most resident of a member", "MB", s.peakMB)
}

// check compares the final rows with the topic, once the group has ended. r's note
// says what is wrong, if anything is.
func (g *group) check(ctx context.Context, pool *pgxpool.Pool, r *row) error {
	o, err := g.topic.committed(ctx, g.admin, g.name)
	if err != nil {
		return err
	}
	wrong, err := g.topic.compare(ctx, pool, o)
	if wrong != "" {
		r.remark("Wrong: " + wrong + ".")
		g.b.wrong(fmt.Sprintf("%s, topic %s: %s", r.Name, g.topic.name, wrong))
	}
	return err
}

// remark has r's note say more.
func (r *row) remark(what string) { r.Note = strings.TrimSpace(r.Note + " " + what) }

// compare says how the rows differ from what they should be when offsets are
// committed: "" if they do not. All that lies before them must be there. What lies
// behind them may be, since rows are committed first: then it must be there as a
// whole.
func (t *topic) compare(ctx context.Context, pool *pgxpool.Pool, o offsets) (string, error) {
	rows, err := pool.Query(ctx, "SELECT event_id FROM mailtally.email_event")
	if err != nil {
		return "", fmt.Errorf("read the events that are there: %w", err)
	}
	there := make(map[string]bool)
	var id string
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { there[id] = true; return nil }); err != nil {
		return "", fmt.Errorf("read the events that are there: %w", err)
	}
	lost := make(map[string]bool)
	var whole []tracking.Event
	for p, indexes := range t.partitions {
		for at, i := range indexes {
			e := t.events[i]
			if there[e.EventID] {
				whole = append(whole, e)
			} else if int64(at) < o[p] {
				lost[e.EventID] = true
			}
		}
	}
	got, err := queryTallies(ctx, pool, ourTallies)
	if err != nil {
		return "", err
	}
	if missing := tallied(whole).minus(got); len(lost) > 0 || missing != (tallies{}) {
		return fmt.Sprintf("%d events lost; of the others missing %+v", len(lost), missing), nil
	}
	return "", nil
}

// perBatch asks the members how many events their transactions had.
func (g *group) perBatch(ctx context.Context) (float64, error) {
	var events, batches float64
	for _, m := range g.members {
		families, err := m.scrape(ctx)
		if err != nil {
			return 0, err
		}
		h, err := families.histogram("mailtally_apply_batch_events")
		if err != nil {
			return 0, err
		}
		events += h.GetSampleSum()
		batches += float64(h.GetSampleCount())
	}
	return events / batches, nil
}
