package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/mailtally/mailtally/tracking"
)

// size is how much goes into a transaction, and how many go on at once.
type size struct{ batch, writers int }

func (s size) String() string {
	if s.writers == 1 {
		return fmt.Sprintf("%s × 1 writer", number(float64(s.batch)))
	}
	return fmt.Sprintf("%s × %d writers", number(float64(s.batch)), s.writers)
}

// load is what is written, and what the sums should be then.
type load struct {
	events []tracking.Event
	want   tallies
}

func newLoad(events []tracking.Event) load { return load{events, tallied(events)} }

// applyAll has a writer apply each share, in batches.
func applyAll(ctx context.Context, pool *pgxpool.Pool, shares [][]tracking.Event, batch int) error {
	store := tracking.Store{Pool: pool}
	return each(ctx, len(shares), func(ctx context.Context, w int) error {
		for events := range slices.Chunk(shares[w], batch) {
			if _, err := store.Apply(ctx, events); err != nil {
				return err
			}
		}
		return nil
	})
}

// rowWrites is how many rows of the tally the batches write: one an email.
func rowWrites(shares [][]tracking.Event, batch int) (n int) {
	for _, share := range shares {
		for events := range slices.Chunk(share, batch) {
			emails := make(map[uuid.UUID]bool, len(events))
			for i := range events {
				emails[events[i].EmailID] = true
			}
			n += len(emails)
		}
	}
	return n
}

// keyed shares events out among writers by their email, as Kafka's keys do among
// partitions.
func keyed(events []tracking.Event, writers int) [][]tracking.Event {
	shares := make([][]tracking.Event, writers)
	for w := range shares {
		shares[w] = make([]tracking.Event, 0, len(events)/writers*11/10)
	}
	for _, e := range events {
		w := int(e.EmailID[0]) % writers
		shares[w] = append(shares[w], e)
	}
	return shares
}

// distinct is events without those that came before.
func distinct(events []tracking.Event) []tracking.Event {
	type key struct {
		email uuid.UUID
		event string
	}
	known := make(map[key]bool, len(events))
	list := make([]tracking.Event, 0, len(events))
	for _, e := range events {
		if k := (key{e.EmailID, e.EventID}); !known[k] {
			known[k] = true
			list = append(list, e)
		}
	}
	return list
}

// each runs do for each of n at once.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range n {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}

// connectAll opens all connections of pool, which opens them as they are needed
// otherwise: within what is measured.
func connectAll(ctx context.Context, pool *pgxpool.Pool) error {
	n := int(pool.Config().MaxConns)
	var held []*pgxpool.Conn
	defer func() {
		for _, conn := range held {
			conn.Release()
		}
	}()
	for range n {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return err
		}
		held = append(held, conn)
	}
	return nil
}

const undisturbedText = "This program holds whole streams in memory, as no consumer does, and looking through them for garbage would be charged to what it measures: it collects before each run, and hardly in it (GOGC is 300)."

// undisturbed keeps the garbage collector of this process from marking the
// streams that it holds, which a real consumer does not, while something is
// measured: it collects now, and next when the heap has grown fourfold. It
// returns what undoes that.
func undisturbed() (undo func()) {
	runtime.GC()
	before := debug.SetGCPercent(300)
	return func() { debug.SetGCPercent(before) }
}
