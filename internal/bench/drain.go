package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// stretch is what a group did between two moments.
type stretch struct {
	from, to progress
	used     cpuTimes // in between
	perBatch float64  // events a committed transaction, since the members began
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
	s.used = cpuTimes{after.kafka - before.kafka, after.postgres - before.postgres, after.members - before.members}
	for _, m := range g.members {
		if err := g.notePeak(m); err != nil {
			return s, err
		}
	}
	s.perBatch, err = g.perBatch(ctx)
	return s, err
}

// report adds to r what was measured.
func (s stretch) report(g *group, r *row) {
	r.measured("rate", "events/s", s.rate())
	million := s.events() / 1e6
	r.measured("mailtally", "CPU s a million", s.used.members.Seconds()/million)
	r.measured("PostgreSQL", "CPU s a million", s.used.postgres.Seconds()/million)
	r.measured("Kafka", "CPU s a million", s.used.kafka.Seconds()/million)
	r.measured("cores busy", "", (s.used.members+s.used.postgres+s.used.kafka).Seconds()/s.seconds())
	r.measured("events a transaction", "", s.perBatch)
	r.measured("resident, most of a member", "MB", g.peakMB)
}

// check compares the final rows with what lies before the group's offsets, once
// it has ended. It says in r's note what is missing.
func (g *group) check(ctx context.Context, pool *pgxpool.Pool, r *row) error {
	o, err := g.topic.committed(ctx, g.admin, g.name)
	if err != nil {
		return err
	}
	got, err := queryTallies(ctx, pool, ourTallies)
	if err != nil {
		return err
	}
	if missing := g.topic.tallied(o).minus(got); missing != (tallies{}) {
		r.Note = strings.TrimSpace(fmt.Sprintf("%s Final rows are wrong; missing: %+v.", r.Note, missing))
		g.b.log.Error("final rows are wrong", "row", r.Name, "missing", fmt.Sprintf("%+v", missing))
	}
	return nil
}

// perBatch asks the members how many events their transactions had.
func (g *group) perBatch(ctx context.Context) (float64, error) {
	var events, batches float64
	for _, m := range g.members {
		for name, value := range map[string]*float64{"mailtally_apply_batch_events_sum": &events, "mailtally_apply_batch_events_count": &batches} {
			n, err := scrape(ctx, "http://"+m.admin+"/metrics", name)
			if err != nil {
				return 0, err
			}
			*value += n
		}
	}
	return events / batches, nil
}

// scrape reads a metric without labels.
func scrape(ctx context.Context, url, name string) (value float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", url, err)
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, name+" %g", &value); err == nil {
			return value, nil
		}
	}
	return 0, fmt.Errorf("%s has no %s", url, name)
}
