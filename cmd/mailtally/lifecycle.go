package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// lifecycle is the stack of what a process has started. The last one started is stopped
// first, since each may depend on those before it.
type lifecycle struct {
	log   *slog.Logger
	fail  func(error) // ends the process with this error
	steps []step
}

type step struct {
	name  string
	limit time.Duration // the longest wait for end to return; 0 if end bounds itself
	end   func() error
}

// live calls start, waits until ctx ends or a part fails, and stops what was started.
// After Ctrl-C there is no error: whatever failed then failed because of it.
func live(ctx context.Context, log *slog.Logger, start func(context.Context, *lifecycle) error) error {
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	life := &lifecycle{log: log, fail: fail}
	err := start(running, life)
	if err == nil {
		<-running.Done()
	}
	switch {
	case ctx.Err() != nil:
		err = nil
	case running.Err() != nil:
		err = context.Cause(running) // the other parts' errors follow from it
	}
	return errors.Join(err, life.end())
}

// onEnd registers end to be called when its turn comes.
func (l *lifecycle) onEnd(name string, limit time.Duration, end func() error) {
	l.steps = append(l.steps, step{name, limit, end})
}

// run runs f until its turn to end comes: then its context ends, and run waits for f.
// An error from f ends the process.
func (l *lifecycle) run(name string, f func(context.Context) error) {
	stop := stage(func(ctx context.Context) {
		if err := f(ctx); err != nil {
			l.fail(err)
		}
	})
	l.onEnd(name, 0, func() error { stop(); return nil })
}

// group is a stack that is stopped as one step of l.
func (l *lifecycle) group(name string, limit time.Duration) *lifecycle {
	g := &lifecycle{log: l.log, fail: l.fail}
	l.onEnd(name, limit, g.end)
	return g
}

func (l *lifecycle) end() error {
	var errs []error
	for _, s := range slices.Backward(l.steps) {
		if err := l.endStep(s); err != nil {
			errs = append(errs, fmt.Errorf("end of %s: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}

// endStep ends s, and waits no longer than its limit, if it has one. What it gives up
// on ends with the process; uncommitted records are consumed again.
func (l *lifecycle) endStep(s step) error {
	if s.limit == 0 {
		return s.end()
	}
	start := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- s.end() }()
	timer := time.NewTimer(s.limit)
	defer timer.Stop()
	select {
	case err := <-ended:
		l.log.Info("closed", "component", s.name, "duration", since(start))
		return err
	case <-timer.C:
		l.log.Warn("gave up waiting for it to stop: Kafka or PostgreSQL hangs; what is not committed is consumed again", "component", s.name)
		return nil
	}
}

// stage runs f until stop is called; stop waits for f to return.
func stage(f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}
