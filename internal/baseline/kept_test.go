package baseline_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/mailtally/mailtally/internal/baseline"
	"github.com/mailtally/mailtally/tracking"
)

// If no two writers meet, all four ways are right: so what
// TestReadModifyWriteLosesEvents shows is due to concurrency alone.
func TestOneWriterLosesNothing(t *testing.T) {
	for _, way := range baseline.Ways() {
		t.Run(way.Name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			deliveries := crowd()
			run(t, 1, deliveries, func(ctx context.Context, e tracking.Event) error { return way.Apply(ctx, pool, e) })
			check(t, pool, theirs, deliveries)
		})
	}
}

func TestConcurrentWritersLoseNothing(t *testing.T) {
	for _, way := range baseline.Ways() {
		if way.Name == "read-modify-write" {
			continue // it does: TestReadModifyWriteLosesEvents
		}
		t.Run(way.Name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			deliveries := crowd()
			run(t, 8, deliveries, func(ctx context.Context, e tracking.Event) error { return way.Apply(ctx, pool, e) })
			check(t, pool, theirs, deliveries)
		})
	}
	t.Run("mailtally", func(t *testing.T) {
		t.Parallel()
		pool := newPool(t)
		store := tracking.Store{Pool: pool}
		deliveries := crowd()
		batches := slices.Collect(slices.Chunk(deliveries, 7))
		run(t, 8, batches, func(ctx context.Context, batch []tracking.Event) error {
			_, err := store.Apply(ctx, batch)
			return err
		})
		check(t, pool, ours, deliveries)
	})
}

// crowd gives events of a few emails, so that writers meet all the time, each delivered
// one to three times, in random order.
func crowd() (deliveries []tracking.Event) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 8 {
		var id uuid.UUID
		for i := range id {
			id[i] = byte(rng.Uint32())
		}
		for n := range 30 {
			e := tracking.Event{
				EmailID:    id,
				EventID:    fmt.Sprintf("msg_%d", n), // the same for all emails: an id is its email's own
				Type:       tracking.Types()[n%len(tracking.Types())],
				OccurredAt: ten.Add(time.Duration(rng.IntN(3600)) * time.Second),
			}
			if n >= 10 && n%3 == 0 {
				e.Type = tracking.Opened
			} else if n >= 10 {
				e.Type = tracking.Clicked
			}
			if e.Type == tracking.Clicked {
				e.Link = fmt.Sprintf("https://example.com/%d", n)
			}
			for range 1 + rng.IntN(3) {
				deliveries = append(deliveries, e)
			}
		}
	}
	rng.Shuffle(len(deliveries), func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })
	return deliveries
}

// run has writers take work from the list, one at a time, until it is done.
func run[T any](t *testing.T, writers int, list []T, apply func(context.Context, T) error) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	var next atomic.Int64
	for range writers {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(list) {
					return nil
				}
				if err := apply(ctx, list[i]); err != nil {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, pool *pgxpool.Pool, relation string, deliveries []tracking.Event) {
	t.Helper()
	if wrong := differences(histories(t, pool, relation), expected(deliveries)); wrong != nil {
		t.Errorf("%d deliveries:\n%s", len(deliveries), strings.Join(wrong, "\n"))
	}
}
