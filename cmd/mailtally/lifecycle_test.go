package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What was started last is stopped first, even if an earlier step failed, and each
// error names its step.
func TestLifecycle_EndsInOrder(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var ended []string
	said := func(name string, err error) func() error {
		return func() error { ended = append(ended, name); return err }
	}
	broken, torn := errors.New("broken"), errors.New("torn")
	err := live(ctx, slog.New(slog.DiscardHandler), func(_ context.Context, life *lifecycle) error {
		life.onEnd("first", 0, said("first", torn))
		group := life.group("group", time.Minute)
		group.onEnd("inner", 0, said("inner", broken))
		group.onEnd("innermost", 0, said("innermost", nil))
		life.run("running", func(ctx context.Context) error {
			<-ctx.Done()
			return said("running", nil)()
		})
		cancel()
		return nil
	})
	if want := []string{"running", "innermost", "inner", "first"}; !slices.Equal(ended, want) {
		t.Errorf("ended %q, want %q", ended, want)
	}
	if want := "end of group: end of inner: broken\nend of first: torn"; err == nil || err.Error() != want || !errors.Is(err, broken) {
		t.Errorf("error %v, want %s", err, want)
	}
}

// A part that fails stops the others, and its error is returned. The same goes for a
// failing start. After Ctrl-C there is no error.
func TestLifecycle_Errors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		start func(ctx context.Context, life *lifecycle, interrupt func()) error
		want  error
	}{
		"a part fails": {func(_ context.Context, life *lifecycle, _ func()) error {
			life.run("failing", func(context.Context) error { return broken })
			return nil
		}, broken},
		"the start fails": {func(context.Context, *lifecycle, func()) error { return broken }, broken},
		"the start fails because a part has": {func(ctx context.Context, life *lifecycle, _ func()) error {
			life.fail(broken)
			return ctx.Err()
		}, broken},
		"the start fails because of Ctrl-C": {func(ctx context.Context, _ *lifecycle, interrupt func()) error {
			interrupt()
			return ctx.Err()
		}, nil},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := false
		err := live(ctx, slog.New(slog.DiscardHandler), func(ctx context.Context, life *lifecycle) error {
			life.onEnd("other", 0, func() error { ended = true; return nil })
			return test.start(ctx, life, cancel)
		})
		if !ended || !errors.Is(err, test.want) || err != nil && err.Error() != test.want.Error() {
			t.Errorf("%s: error %v, want %v; the others ended: %v", name, err, test.want, ended)
		}
	}
}

// What hangs is given up on at its limit, and the rest is stopped all the same.
func TestLifecycle_GivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := newOutput()
		life := &lifecycle{log: slog.New(slog.NewJSONHandler(written, nil))}
		hangs := make(chan struct{})
		defer close(hangs)
		ended := false
		life.onEnd("first", 0, func() error { ended = true; return nil })
		life.group("roles", time.Minute).onEnd("hanging", 0, func() error { <-hangs; return nil })
		start := time.Now()
		if err := life.end(); err != nil || !ended || time.Since(start) != time.Minute {
			t.Errorf("error %v, ended %v, after %v", err, ended, time.Since(start))
		}
		if text := written.String(); !strings.Contains(text, "gave up") || !strings.Contains(text, `"component":"roles"`) {
			t.Errorf("logged %s", text)
		}
	})
}
