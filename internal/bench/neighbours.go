package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

const neighboursText = `
%s deliveries of ordinary emails into each of two databases of one server, in batches of %s keyed by email, both with an email that has %s events already. Into one of them comes an event for that email after every %d of the others. They take turns, %s deliveries each, and these turns, %d of each, are the rounds of this table. The rate is that of the others; 1 %% of the work is the hot email's in any case, and 4 %% of one writer's.`

// neighbours measures what a hot email does to the others.
func (b *bench) neighbours(ctx context.Context, d *database) error {
	const turn, oneIn = 50_000, 100
	n, before := 20*turn, 100_000
	if b.full {
		n, before = 40*turn, 1_000_000
	}
	s := size{5_000, 4}
	ordinary := stream(n, time.Now())

	withoutPool, err := d.fresh(ctx, int32(s.writers))
	if err != nil {
		return err
	}
	defer withoutPool.Close()
	withPool, err := d.another(ctx, "hot", int32(s.writers))
	if err != nil {
		return err
	}
	defer withPool.Close()
	if err := tracking.Migrate(ctx, withPool); err != nil {
		return err
	}

	arms := []*arm{
		{row: row{Name: "without it"}, hot: newHotEmail(d, withoutPool), pool: withoutPool},
		{row: row{Name: "with it"}, hot: newHotEmail(d, withPool), pool: withPool, oneIn: oneIn},
	}
	for _, a := range arms {
		if err := connectAll(ctx, a.pool); err != nil {
			return err
		}
		if err := a.hot.fill(ctx, before); err != nil {
			return err
		}
	}
	if _, err := d.admin.Exec(ctx, "CHECKPOINT"); err != nil {
		return err
	}
	turns := 0
	for events := range slices.Chunk(ordinary, turn) {
		for i := range arms {
			if err := arms[(i+turns)%len(arms)].apply(ctx, events, s); err != nil {
				return err
			}
		}
		turns++
	}
	for _, a := range arms {
		if err := a.check(ctx, b, tallied(ordinary)); err != nil {
			return err
		}
	}
	with, without := arms[1].row, arms[0].row
	with.ratio("with/without", othersRate, &without)
	b.report.add(table{
		Part: "hot", Title: "its neighbours",
		Text: fmt.Sprintf(neighboursText, number(float64(n)), s, number(float64(before)), oneIn, number(turn), turns),
		Rows: []row{without, with},
	})
	return nil
}

const othersRate = "the others' events/s"

// arm is one of the two databases.
type arm struct {
	row   row
	hot   *hotEmail
	pool  *pgxpool.Pool
	oneIn int // of the others' events, after which there is one of the hot email; 0 is never
}

// apply takes a turn.
func (a *arm) apply(ctx context.Context, ordinary []tracking.Event, s size) error {
	events := make([]tracking.Event, 0, len(ordinary)*2)
	for i, e := range ordinary {
		events = append(events, e)
		if a.oneIn > 0 && i%a.oneIn == 0 {
			events = append(events, a.hot.event(a.hot.id))
		}
	}
	shares := keyed(events, s.writers)
	defer undisturbed()()
	start := time.Now()
	if err := applyAll(ctx, a.pool, shares, s.batch); err != nil {
		return err
	}
	a.row.measured(othersRate, "", float64(len(ordinary))/time.Since(start).Seconds())
	return nil
}

// check notes what is wrong with the sums, given those of the others.
func (a *arm) check(ctx context.Context, b *bench, want tallies) error {
	want.Emails++
	want.Events += a.hot.events
	want.Opens += a.hot.events - a.hot.clicks
	want.Clicks += a.hot.clicks
	want.ClicksStored += a.hot.clicks
	want.addTimes(a.hot.firsts)
	got, err := queryTallies(ctx, a.pool, ourTallies)
	if err != nil {
		return err
	}
	if a.row.Note = differences(want, want.minus(got)); a.row.Note != "" {
		b.wrong("hot, its neighbours, " + a.row.Name + ": " + a.row.Note)
	}
	return nil
}
