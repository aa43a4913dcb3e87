package tracking_test

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/mailtally/mailtally/internal/testpg"
	"github.com/mailtally/mailtally/tracking"
)

// withStandby is a store in a server of its own, whose commits can be made to wait.
func withStandby(t *testing.T) (*tracking.Store, *testpg.Standby) {
	t.Helper()
	pg := testpg.Server(t, nil)
	store := &tracking.Store{Pool: connect(t, pg.URL("postgres"))}
	if err := tracking.Migrate(t.Context(), store.Pool); err != nil {
		t.Fatal(err)
	}
	return store, testpg.NewStandby(t, pg)
}

type outcome struct {
	result tracking.Result
	err    error
}

func applying(ctx context.Context, store *tracking.Store, events []tracking.Event) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		r, err := store.Apply(ctx, events)
		done <- outcome{r, err}
	}()
	return done
}

// However the wait for a synchronous standby ends, the batch counts as committed only
// once a later commit has been waited for to the end. Its result is what it would have
// been without.
func TestI6_CancelledWaitForTheStandby(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{
		"cancelled":  "SELECT pg_cancel_backend($1)",
		"terminated": "SELECT pg_terminate_backend($1)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, standby := withStandby(t)
			exec := func(sql string, pid int32) {
				t.Helper()
				if _, err := store.Pool.Exec(t.Context(), sql, pid); err != nil {
					t.Fatal(err)
				}
			}
			events := eventsOf(uuid.New(), tracking.Opened, 0, 5)
			apply(t.Context(), t, store, events[0]) // beside a duplicate
			standby.Away()
			done := applying(t.Context(), store, events)
			first := standby.Waiting(testpg.Commit{})
			exec(end, first.PID)
			// Everybody sees the batch, and no standby has it.
			waitFor(t, store.Pool, "the batch to be committed", "SELECT open_count = 5 FROM mailtally.email")
			// Commits that are to confirm it meet the same end.
			second := standby.Waiting(first)
			exec(end, second.PID)
			standby.Waiting(second)
			select {
			case o := <-done:
				t.Fatalf("result %+v, error %v, with no standby", o.result, o.err)
			default:
			}
			standby.Back()
			if o := <-done; o.err != nil || o.result.Applied.Sum() != 4 || o.result.Duplicate.Sum() != 1 {
				t.Errorf("result %+v, error %v; want 4 applied and a duplicate", o.result, o.err)
			}
			compare(t.Context(), t, store.Pool, events)
		})
	}
}

// A batch that could not be confirmed in time is an error, and all of it is done again. By
// then it is nothing but duplicates; they too wait for the standby.
func TestI6_UnconfirmedBatchIsAnError(t *testing.T) {
	t.Parallel()
	store, standby := withStandby(t)
	events := append(eventsOf(uuid.New(), tracking.Opened, 0, 5), eventsOf(uuid.New(), tracking.Clicked, 0, 100)...)
	standby.Away()
	for _, what := range []string{"new", "duplicate"} {
		ctx, cancel := context.WithCancel(t.Context())
		done := applying(ctx, store, events)
		standby.Waiting(testpg.Commit{})
		cancel()
		if o := <-done; o.err == nil {
			t.Errorf("result %+v of %s events, with no standby", o.result, what)
		}
		waitFor(t, store.Pool, "the batch to be committed", "SELECT count(*) = 2 FROM mailtally.email")
	}
	done := applying(t.Context(), store, events)
	standby.Waiting(testpg.Commit{})
	standby.Back()
	if o := <-done; o.err != nil || o.result.Applied.Sum() != 0 || o.result.Duplicate.Sum() != len(events) {
		t.Errorf("result %+v, error %v; want nothing but duplicates", o.result, o.err)
	}
	compare(t.Context(), t, store.Pool, events)
}
