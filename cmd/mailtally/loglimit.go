package main

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	logBurst    = 5
	logInterval = 10 * time.Second

	// logKinds bounds the memory, were there a message that is not constant: beyond
	// it all further kinds of a level are one.
	logKinds = 500
)

// logLimit passes records on to another handler, but no flood of them. Of a kind,
// which is a level, a message, a component, a reason and a broker, logBurst lines are
// written at once. Then, for as long as there are more, one each logInterval: the
// newest, with the number of the others as "repeated". So lines and repeated always
// add up to what was logged. Who asks for debug gets all of that.
//
// From warnings on each partition is a kind of its own: whoever is called needs them
// all, and they are few. Events that are dropped are not, and their partition is
// none of the kind.
type logLimit struct {
	next    slog.Handler
	kind    logKind // what With has said of it
	grouped bool    // what With says from here on is in a group
	*logKindsSeen
}

type logKind struct {
	level                                         slog.Level
	message, component, reason, broker, partition string
}

// logKindsSeen is shared by all handlers that come from one by With.
type logKindsSeen struct {
	mu     sync.Mutex // held while a line is written, so that they are in order
	kinds  map[logKind]*logSeen
	closed bool
	timers sync.WaitGroup // those that run
}

// logSeen is what was logged of a kind lately.
type logSeen struct {
	left  int // that may be written at once
	held  int
	last  slog.Record  // of those held
	by    slog.Handler // for last
	timer *time.Timer  // ends the interval
}

func newLogLimit(next slog.Handler) *logLimit {
	return &logLimit{next: next, logKindsSeen: &logKindsSeen{kinds: make(map[logKind]*logSeen)}}
}

func (l *logLimit) Enabled(ctx context.Context, level slog.Level) bool {
	return l.next.Enabled(ctx, level)
}

func (l *logLimit) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *l
	with.next = l.next.WithAttrs(attrs)
	if !l.grouped {
		for _, a := range attrs {
			with.kind.add(a)
		}
	}
	return &with
}

func (l *logLimit) WithGroup(name string) slog.Handler {
	with := *l
	with.next = l.next.WithGroup(name)
	with.grouped = l.grouped || name != ""
	return &with
}

func (k *logKind) add(a slog.Attr) {
	switch a.Key {
	case "component":
		k.component = a.Value.String()
	case "reason":
		k.reason = a.Value.String()
	case "broker":
		k.broker = a.Value.String()
	case "partition":
		k.partition = a.Value.String()
	}
}

func (l *logLimit) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return l.next.Handle(ctx, r)
	}
	kind := l.kind
	kind.level, kind.message = r.Level, r.Message
	if !l.grouped {
		r.Attrs(func(a slog.Attr) bool { kind.add(a); return true })
	}
	if r.Level < slog.LevelWarn {
		kind.partition = ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.next.Handle(ctx, r)
	}
	seen := l.seen(kind)
	if seen.left > 0 {
		seen.left--
		return l.next.Handle(ctx, r)
	}
	seen.held++
	seen.last, seen.by = r.Clone(), l.next
	return nil
}

// seen is what is kept of a kind. Its first record begins an interval.
func (l *logKindsSeen) seen(kind logKind) *logSeen {
	if l.kinds[kind] == nil && len(l.kinds) >= logKinds {
		kind = logKind{level: kind.level}
	}
	if l.kinds[kind] == nil {
		seen := &logSeen{left: logBurst}
		l.timers.Add(1)
		seen.timer = time.AfterFunc(logInterval, func() { l.intervalEnds(kind, seen) })
		l.kinds[kind] = seen
	}
	return l.kinds[kind]
}

func (l *logKindsSeen) intervalEnds(kind logKind, seen *logSeen) {
	defer l.timers.Done()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
	case seen.held == 0:
		delete(l.kinds, kind)
	default:
		seen.write()
		l.timers.Add(1)
		seen.timer.Reset(logInterval)
	}
}

// write writes the newest of those held back.
func (s *logSeen) write() {
	if s.held > 1 {
		s.last.AddAttrs(slog.Int("repeated", s.held-1))
	}
	_ = s.by.Handle(context.Background(), s.last) // there is nobody to tell
	s.left, s.held, s.last = 0, 0, slog.Record{}
}

// close writes what is held back, oldest first, and returns when no timer runs any
// more. What is logged after that is not limited.
func (l *logKindsSeen) close() {
	l.mu.Lock()
	l.closed = true
	all := slices.SortedFunc(maps.Values(l.kinds), func(a, b *logSeen) int { return a.last.Time.Compare(b.last.Time) })
	for _, seen := range all {
		if seen.timer.Stop() {
			l.timers.Done()
		}
		if seen.held > 0 {
			seen.write()
		}
	}
	clear(l.kinds)
	l.mu.Unlock()
	l.timers.Wait()
}
