package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"testing/synctest"
	"time"
)

// limited is a logger with a limit, and its output.
func limited(level slog.Level) (log *slog.Logger, limit *logLimit, flush func(), written *output) {
	written = newOutput()
	limit, flush = newLogLimit(slog.NewJSONHandler(written, &slog.HandlerOptions{Level: level}))
	return slog.New(limit), limit, flush, written
}

// logLine is a JSON log line.
type logLine map[string]any

func (o *output) lines() (list []logLine) {
	for text := range strings.Lines(o.String()) {
		var line logLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			panic(err)
		}
		list = append(list, line)
	}
	return list
}

// stood is how many records the lines stand for.
func stood(lines []logLine) (n int) {
	for _, line := range lines {
		repeated, _ := line["repeated"].(float64)
		n += 1 + int(repeated)
	}
	return n
}

// The limit conforms to slog's handler rules, groups and attributes included.
func TestLogLimit_IsAHandler(t *testing.T) {
	var written *output
	slogtest.Run(t, func(*testing.T) slog.Handler {
		written = newOutput()
		limit, flush := newLogLimit(slog.NewJSONHandler(written, nil))
		t.Cleanup(flush)
		return limit
	}, func(*testing.T) map[string]any { return written.lines()[0] })
}

// The first lines of a flood are written at once, then the newest one per interval, and
// what is held back when the flood ends. The counts include every record, and a new
// flood begins with its first lines again.
func TestLogLimit_Flood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, limit, flush, written := limited(slog.LevelInfo)
		defer flush()
		log.Info("single") // unchanged
		n := 0
		flood := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(7 * time.Millisecond) { // never at the same time as an interval
				n++
				log.Info("again", "n", n)
			}
			synctest.Wait()
		}
		flood(20 * time.Millisecond)
		if got := len(written.lines()); got != 4 {
			t.Fatalf("%d lines of 4", got)
		}
		flood(25*time.Second - 20*time.Millisecond)
		// After 25 s: the first ones, and two intervals.
		if got := written.lines()[1:]; len(got) != logBurst+2 || got[logBurst]["n"] != 1429.0 || got[logBurst]["repeated"] != 1423.0 || got[logBurst+1]["repeated"] != 1428.0 {
			t.Errorf("lines %v", got[logBurst:])
		}
		time.Sleep(logInterval)
		synctest.Wait()
		if got := written.lines()[1:]; len(got) != logBurst+3 || stood(got) != n || got[logBurst+2]["n"] != float64(n) {
			t.Errorf("%d lines stand for %d records of %d, the last is %v", len(got), stood(got), n, got[len(got)-1])
		}
		time.Sleep(2 * logInterval)
		synctest.Wait()
		if len(limit.kinds) != 0 {
			t.Errorf("%d kinds are kept after a quiet interval", len(limit.kinds))
		}
		before := len(written.lines())
		flood(28 * time.Millisecond)
		if got := len(written.lines()) - before; got != 4 {
			t.Errorf("%d lines of a new flood, want 4", got)
		}
	})
}

// A flood hides nothing else: other levels, messages, components and reasons have their
// own lines, whether set on the record or by With.
func TestLogLimit_Kinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, flush, written := limited(slog.LevelDebug)
		for range 100 {
			log.Info("a")
		}
		kinds := []func(){
			func() { log.Warn("a") },
			func() { log.Info("b") },
			func() { log.Info("a", "reason", "x") },
			func() { log.With("reason", "y", "other", 1).Info("a") },
			func() { log.With("component", "x").Info("a") },
		}
		before := len(written.lines())
		for _, kind := range kinds {
			kind()
		}
		log.With("partition", 3).Info("a") // the same kind as the flood
		if got := len(written.lines()) - before; got != len(kinds) {
			t.Errorf("%d lines, want %d", got, len(kinds))
		}
		for range 100 {
			log.Debug("all of this was asked for")
		}
		before += len(kinds)
		if got := len(written.lines()) - before; got != 100 {
			t.Errorf("%d lines of debug of 100", got)
		}
		flush()
		last := written.lines()[len(written.lines())-1]
		// As it was logged, attributes set by With included.
		if last["msg"] != "a" || last["partition"] != 3.0 || last["repeated"] != 95.0 {
			t.Errorf("the last line is %v", last)
		}
	})
}

// A loss in each of many partitions has its own line, as has each of many brokers that
// is lost and comes back. A flood of dead letters has not, whether from many partitions
// or from one.
func TestLogLimit_Partitions(t *testing.T) {
	t.Parallel()
	written := newOutput()
	log, flush := newLogger(config{LogFormat: "json"}, written)
	defer flush()
	const partitions = 12
	for p := range partitions {
		log.Error("records lost", "partition", int32(p), "offset", 5)
		log.Warn("no committed offset", "partition", int32(p))
		log.Warn("Kafka broker lost", "broker", fmt.Sprint("kafka", p))
		log.Info("Kafka broker back", "broker", fmt.Sprint("kafka", p))
		for range logBurst + 3 {
			log.With("partition", int32(p)).Info("event dropped")
			log.Warn("again and again", "partition", int32(0))
		}
	}
	lines := make(map[string]int)
	for _, line := range written.lines() {
		lines[fmt.Sprint(line["msg"], ", ", cmp.Or(line["broker"], line["partition"]))]++
	}
	for p := range partitions {
		for _, want := range []string{"records lost, %d", "no committed offset, %d", "Kafka broker lost, kafka%d", "Kafka broker back, kafka%d"} {
			if n := lines[fmt.Sprintf(want, p)]; n != 1 {
				t.Errorf("%d lines "+want+", want 1", n, p)
			}
		}
	}
	if n := len(written.lines()); n != 4*partitions+2*logBurst {
		t.Errorf("%d lines, want %d", n, 4*partitions+2*logBurst)
	}
}

// However many kinds there are, memory is bounded and every record is counted.
func TestLogLimit_Bounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, limit, flush, written := limited(slog.LevelInfo)
		const kinds, each = 3 * logKinds, logBurst + 2
		for i := range kinds * each {
			log.Info(strconv.Itoa(i % kinds))
		}
		if n := len(limit.kinds); n != logKinds {
			t.Errorf("%d kinds are kept, want %d", n, logKinds)
		}
		flush()
		if got := stood(written.lines()); got != kinds*each {
			t.Errorf("the lines stand for %d records of %d", got, kinds*each)
		}
		log.Info("after the end")
		if got := written.lines(); got[len(got)-1]["msg"] != "after the end" {
			t.Errorf("the last line is %v", got[len(got)-1])
		}
	})
}

// Many goroutines log while the limit is stopped, and every record is counted. goleak
// (TestMain) checks that no goroutine is left.
func TestLogLimit_Concurrent(t *testing.T) {
	t.Parallel()
	log, _, flush, written := limited(slog.LevelInfo)
	const writers, each = 8, 1000
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			log := log.With("component", fmt.Sprint(w%2))
			for i := range each {
				if w == 0 && i == each/2 {
					flush()
				}
				log.Warn("at once", "error", errors.New("x"))
			}
		})
	}
	running.Wait()
	flush()
	if got := stood(written.lines()); got != writers*each {
		t.Errorf("the lines stand for %d records of %d", got, writers*each)
	}
}

// Where the lines that are held back differ in their errors, the line that stands for
// them says which else there were: one that comes once may be the one that matters.
func TestLogLimit_OtherErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, flush, written := limited(slog.LevelInfo)
		defer flush()
		say := func(texts ...string) {
			for _, text := range texts {
				log.Warn("again", "error", errors.New(text))
			}
		}
		newest := func() logLine { return written.lines()[len(written.lines())-1] }
		say("a", "a", "a", "a", "a") // written at once
		say("b", "disk full", "b", "b")
		time.Sleep(logInterval)
		synctest.Wait()
		if line := newest(); line["error"] != "b" || line["repeated"] != 3.0 || fmt.Sprint(line["other_errors"]) != "[disk full]" {
			t.Errorf("got %v", line)
		}
		say("a", "a")
		time.Sleep(logInterval)
		synctest.Wait()
		if line := newest(); line["error"] != "a" || line["repeated"] != 1.0 || line["other_errors"] != nil {
			t.Errorf("of one error alone: %v", line)
		}
		for i := range 100 {
			say(fmt.Sprintf("read tcp 10.0.0.1:%d->10.0.0.2:9092: EOF", 40_000+i))
		}
		time.Sleep(logInterval)
		synctest.Wait()
		if line := newest(); line["repeated"] != 99.0 || line["other_errors"] != nil {
			t.Errorf("of one error on many connections: %v", line)
		}
		for i := range 1000 {
			say(fmt.Sprint(i))
		}
		flush()
		if line := newest(); line["error"] != "999" || line["repeated"] != 999.0 || fmt.Sprint(line["other_errors"]) != "[0 1 2]" {
			t.Errorf("of many: %v", line)
		}
	})
}
