// Command bench measures mailtally on real parts: a PostgreSQL that loses
// nothing, and Apache Kafka. What is compared runs in interleaved rounds on the
// same machine, the final rows of each run are checked, and the report says what
// it ran on.
//
//	go run . -parts apply,hot        # those parts, the short form
//	go run . -full                   # everything, at full length
//	go run . -dir /mnt/disk          # on that disk
//
// It needs a Go toolchain and a PostgreSQL (one is fetched where there is none),
// and for the parts with Kafka a JDK 17 or newer and Maven.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// part is a benchmark that can be run alone.
type part struct {
	name, about string
	run         func(context.Context, *bench) error
	linux       bool // works there only: it needs /proc, or epoll
	long        bool // left out of a short run, unless asked for
}

// parts are all there are, in the order of the report.
func parts() []part {
	return []part{
		{name: "apply", about: "events to committed rows: the usual ways, mailtally, and COPY as the limit", run: apply},
		{name: "growth", about: "the same from nothing to tens of millions of events", run: growth},
		{name: "hot", about: "one email with up to a million opens and clicks", run: hot},
		{name: "pipe", about: "webhook bodies in Kafka to committed rows, by the real consumer", run: pipe, linux: true},
		{name: "far", about: "the same with a database 10 ms away", run: far, linux: true},
		{name: "peers", about: "what a team would otherwise write or run for the same job", run: peers, linux: true},
		{name: "gateway", about: "webhooks acknowledged a second, and time to the answer", run: gatewayPart, linux: true},
		{name: "delay", about: "time from a webhook to its committed row", run: delayPart, linux: true},
		{name: "settings", about: "what settings of PostgreSQL are worth", run: measureSettings, long: true},
	}
}

// bench is one run of the program, as its parts see it.
type bench struct {
	full   bool // the long form
	rounds int  // of things compared
	dir    string
	log    *slog.Logger
	report *report
	wrongs atomic.Int32 // how often wrong was called
}

// wrong notes that final rows of mailtally's are not what they should be. The run
// goes on, and fails in the end. Several goroutines may call it at once.
func (b *bench) wrong(what string) {
	b.wrongs.Add(1)
	b.log.Error("final rows are wrong", "what", what)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second Ctrl-C does not wait for anything
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run measures: the tables go to stdout as they come, and all of it into files.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	full := flags.Bool("full", false, "measure at full length: an hour or two instead of ten minutes")
	rounds := flags.Int("rounds", 0, "`number` of interleaved rounds (3, or 5 with -full)")
	only := flags.String("parts", "", "comma-separated `names`, all if empty")
	out := flags.String("out", "results", "`folder` for results.md, results.json and the charts")
	parent := flags.String("dir", "", "`folder` for the data while it is measured, on the disk that is meant (default the system's temporary one)")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: go run . [flags]")
		flags.PrintDefaults()
		fmt.Fprintln(stderr, "parts:")
		for _, p := range parts() {
			about := p.about
			if p.linux {
				about += " (Linux only)"
			}
			if p.long {
				about += " (with -full, or asked for)"
			}
			fmt.Fprintf(stderr, "  %-10s %s\n", p.name, about)
		}
	}
	if err := flags.Parse(args); err != nil {
		return 2
	}
	chosen, left, err := choose(*only, *full, runtime.GOOS)
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	switch {
	case *rounds < 0:
		fmt.Fprintf(stderr, "bench: -rounds is %d: want 1 or more, or 0 for the usual number\n", *rounds)
		return 2
	case *rounds == 0 && *full:
		*rounds = 5
	case *rounds == 0:
		*rounds = 3
	}
	dir, err := dataDir(*parent)
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	b := &bench{full: *full, rounds: *rounds, dir: dir, log: slog.New(slog.NewTextHandler(stderr, nil)), report: newReport(stdout, *full, *rounds)}
	if err := b.report.Machine.storage(dir); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	for _, p := range left {
		b.log.Warn("part left out: it needs Linux", "part", p.name)
	}
	for _, p := range chosen {
		start := time.Now()
		b.log.Info("part begins", "part", p.name)
		if err := p.run(ctx, b); err != nil {
			b.log.Error("part failed", "part", p.name, "error", err)
			b.report.failed(p.name, err)
		}
		b.log.Info("part ended", "part", p.name, "took", time.Since(start).Round(time.Second).String(), "results", *out)
		// After each part: a run that is interrupted keeps what it has.
		if err := b.report.write(*out); err != nil {
			b.log.Error("report not written", "error", err)
			return 1
		}
		if ctx.Err() != nil {
			return 1
		}
	}
	if n := b.wrongs.Load(); n > 0 {
		b.log.Error("final rows of mailtally were wrong: see above, and the notes of the report", "times", n)
		return 1
	}
	if len(b.report.Failed) > 0 {
		return 1
	}
	return 0
}

// dataDir makes a folder for a run's data in parent, the system's temporary one
// if that is "".
func dataDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "mailtally-bench-")
	if err != nil {
		return "", err
	}
	// PostgreSQL refuses root and then runs as another user, who has to get by.
	err = os.Chmod(dir, 0o711)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		os.RemoveAll(dir)
		return "", err
	}
	return dir, nil
}

// choose gives the parts with the names of list. If that is "" they are all that
// work on the system, and left are the others.
func choose(list string, full bool, system string) (chosen, left []part, err error) {
	if list == "" {
		for _, p := range parts() {
			if p.long && !full {
				continue
			}
			if p.linux && system != "linux" {
				left = append(left, p)
			} else {
				chosen = append(chosen, p)
			}
		}
		return chosen, left, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		i := slices.IndexFunc(parts(), func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, nil, fmt.Errorf("no part %q: see -help", name)
		}
		p := parts()[i]
		if p.linux && system != "linux" {
			return nil, nil, fmt.Errorf("the part %s works on Linux only, and this is %s", p.name, system)
		}
		chosen = append(chosen, p)
	}
	return chosen, nil, nil
}
