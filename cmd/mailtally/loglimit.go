package main

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	logBurst    = 5
	logInterval = 10 * time.Second
	logKinds    = 500 // kinds that are limited: bounds memory, should a message not be constant
	otherErrors = 3
)

// logLimit passes records on to another handler, but no flood of them. Of a kind,
// logBurst are written at once; then, each logInterval and at the end, the newest, with
// the number of the others as "repeated", and up to otherErrors of their errors as
// "other_errors", if those are different ones. A quiet interval resets the kind. So lines
// and repeated always add up to what was logged. At debug level nothing is held back.
type logLimit struct {
	slog.Handler         // the next
	kind         logKind // its attributes set by With
	*logSeen
}

// logKind identifies records of a kind. Warnings and errors are also told apart by
// partition: whoever is on call needs all of those, and they are few.
type logKind struct {
	level                     slog.Level
	message, about, partition string
}

// logSeen is shared by all handlers derived from one by With.
type logSeen struct {
	mu    sync.Mutex             // held while a line is written, to keep lines in order
	kinds map[logKind]*logNewest // nil after stop: from then on nothing is held back
}

// logNewest is the newest record of a kind, and how many beyond logBurst are held back.
type logNewest struct {
	seen   int
	record slog.Record
	by     slog.Handler
	errors []string // different ones of those held back: one more than otherErrors, since the newest's may be among them
}

// hold holds r back in place of the one before.
func (n *logNewest) hold(r slog.Record, by slog.Handler) {
	n.record, n.by = r.Clone(), by
	if text := errorOf(r); len(n.errors) <= otherErrors && text != "" && !slices.Contains(n.errors, text) {
		n.errors = append(n.errors, text)
	}
}

// release writes the record held back, and what stands for the others.
func (n *logNewest) release() {
	if others := n.seen - logBurst - 1; others > 0 {
		n.record.AddAttrs(slog.Int("repeated", others))
	}
	newest := errorOf(n.record)
	if others := slices.DeleteFunc(n.errors, func(text string) bool { return text == newest }); len(others) > 0 {
		n.record.AddAttrs(slog.Any("other_errors", others[:min(len(others), otherErrors)]))
	}
	_ = n.by.Handle(context.Background(), n.record) // nobody to report it to
	n.seen, n.errors = logBurst, nil
}

// errorOf is the text of r's error, if it has one.
func errorOf(r slog.Record) (text string) {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			text = safeErrors(nil, a).Value.String()
		}
		return text == ""
	})
	// The port at our end of a connection makes no different error.
	if before, after, found := strings.Cut(text, "->"); found {
		text = strings.TrimRight(before, "0123456789") + "…->" + after
	}
	return text
}

// newLogLimit limits next until stop is called, which writes what is held back.
func newLogLimit(next slog.Handler) (l *logLimit, stop func()) {
	l = &logLimit{Handler: next, logSeen: &logSeen{kinds: make(map[logKind]*logNewest)}}
	stop = stage(func(ctx context.Context) {
		ticker := time.NewTicker(logInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				l.endInterval(false)
			case <-ctx.Done():
				l.endInterval(true)
				return
			}
		}
	})
	return l, stop
}

func (s *logSeen) endInterval(last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.kinds, func(_ logKind, n *logNewest) bool { return n.seen <= logBurst })
	for _, n := range slices.SortedFunc(maps.Values(s.kinds), func(a, b *logNewest) int { return a.record.Time.Compare(b.record.Time) }) {
		n.release()
	}
	if last {
		s.kinds = nil
	}
}

func (l *logLimit) Handle(ctx context.Context, r slog.Record) error {
	kind := l.kind
	kind.level, kind.message = r.Level, r.Message
	r.Attrs(func(a slog.Attr) bool { kind.add(a); return true })
	if r.Level < slog.LevelWarn {
		kind.partition = ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.kinds[kind]
	if r.Level < slog.LevelInfo || l.kinds == nil || n == nil && len(l.kinds) >= logKinds {
		return l.Handler.Handle(ctx, r)
	}
	if n == nil {
		n = new(logNewest)
		l.kinds[kind] = n
	}
	if n.seen++; n.seen <= logBurst {
		return l.Handler.Handle(ctx, r)
	}
	n.hold(r, l.Handler)
	return nil
}

func (k *logKind) add(a slog.Attr) {
	switch a.Key {
	case "component", "reason", "broker":
		k.about += a.Key + "=" + a.Value.String() + "\n"
	case "partition":
		k.partition = a.Value.String()
	}
}

func (l *logLimit) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *l
	with.Handler = l.Handler.WithAttrs(attrs)
	for _, a := range attrs {
		with.kind.add(a)
	}
	return &with
}

func (l *logLimit) WithGroup(name string) slog.Handler {
	with := *l
	with.Handler = l.Handler.WithGroup(name)
	return &with
}
