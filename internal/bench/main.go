// Command bench measures mailtally on real components: a PostgreSQL that loses nothing
// when the machine crashes, Apache Kafka, and the real binary. What is compared runs in
// interleaved rounds on one machine, the final rows of every run are checked, and the
// report says what it ran on.
//
//	go run . -parts apply,hot        # those parts, the short form
//	go run . -full                   # everything, at full length
//	go run . -dir /mnt/disk          # with the data on that disk
//
// It needs Linux, a Go toolchain, a PostgreSQL (downloaded if there is none) and, for
// the parts with Kafka, a JDK 17 or newer and Maven.
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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// part is a benchmark that can be run alone.
type part struct {
	name     string
	run      func(context.Context, *bench) error
	settings map[string]string // of its PostgreSQL, beside the usual ones
	kafka    []kgo.Opt         // of this program's client, if it needs a Kafka
}

// parts are all there are, in the order of the report.
func parts() []part {
	usual, zstd := []kgo.Opt{}, []kgo.Opt{kgo.ProducerBatchCompression(kgo.ZstdCompression())}
	return []part{
		{"apply", apply, nil, nil},
		{"growth", growth, nil, nil},
		{"hot", hot, nil, nil},
		{"pipe", pipe, nil, usual},
		{"memory", memory, nil, zstd},
		{"far", far, nil, usual},
		{"gateway", gateway, nil, usual},
		{"delay", delay, map[string]string{"track_commit_timestamp": "on"}, usual},
	}
}

// bench is one run of the program, as its parts see it.
type bench struct {
	full   bool // the long form
	rounds int
	dir    string // for data, removed in the end
	log    *slog.Logger
	report *report
	failed bool

	// A part's own servers.
	db    *database
	kafka *kafka // nil where it needs none
}

// measure starts a part's servers and runs it.
func (b *bench) measure(ctx context.Context, p part) (err error) {
	// The next part needs the room.
	dir := filepath.Join(b.dir, p.name)
	defer os.RemoveAll(dir)
	if b.db, err = b.startPostgres(ctx, filepath.Join(dir, "postgres"), p.settings); err != nil {
		return err
	}
	defer b.db.stop()
	if p.kafka != nil {
		if b.kafka, err = b.startKafka(ctx, filepath.Join(dir, "kafka"), p.kafka); err != nil {
			return err
		}
		defer b.kafka.stop()
	}
	return p.run(ctx, b)
}

// pick gives the figure of the short form or of the full one.
func pick[T any](b *bench, short, full T) T {
	if b.full {
		return full
	}
	return short
}

// interleave measures each row once per round, in a different order every round, so
// that none is always first or always follows the same one.
func (b *bench) interleave(rows []row, measure func(i int) error) error {
	for round := range b.rounds {
		for k := range rows {
			i := (k + round) % len(rows)
			if err := measure(i); err != nil {
				return fmt.Errorf("%s: %w", rows[i].name, err)
			}
			b.log.Info("measured", "round", round+1, "what", rows[i].String())
		}
	}
	return nil
}

// wrong records that mailtally's final rows are not what they should be. The run goes
// on, and fails at the end.
func (b *bench) wrong(what string) {
	b.failed = true
	b.log.Error("final rows are wrong", "what", what)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second Ctrl-C does not wait for anything
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run measures. Tables go to stdout as they are finished, and into a file.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	full := flags.Bool("full", false, "measure at full length: an hour instead of ten minutes")
	rounds := flags.Uint("rounds", 3, "`number` of interleaved rounds")
	only := flags.String("parts", "", "comma-separated `names`, of apply, growth, hot, pipe, memory, far, gateway and delay (default all)")
	out := flags.String("out", "results", "`folder` for results.md")
	parent := flags.String("dir", "", "`folder` for the data while it is measured (default the system's temporary one)")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	chosen, err := choose(*only)
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	b := &bench{full: *full, rounds: int(*rounds), log: slog.New(slog.NewTextHandler(stderr, nil))}
	if b.dir, err = dataDir(*parent); err == nil {
		defer os.RemoveAll(b.dir)
		b.report, err = newReport(b, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	for _, p := range chosen {
		start := time.Now()
		if err := b.measure(ctx, p); err != nil {
			b.log.Error("part failed", "part", p.name, "error", err)
			b.failed = true
		}
		b.log.Info("part ended", "part", p.name, "took", time.Since(start).Round(time.Second).String())
		// After each part: a run that is interrupted keeps what it has.
		if err := b.report.write(*out); err != nil {
			b.log.Error("report not written", "error", err)
			return 1
		}
		if ctx.Err() != nil {
			return 1
		}
	}
	if b.failed {
		b.log.Error("parts failed, or final rows were wrong: see above")
		return 1
	}
	return 0
}

// dataDir makes a folder for a run's data in parent; "" means the system's temporary
// folder.
func dataDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "mailtally-bench-")
	if err != nil {
		return "", err
	}
	// PostgreSQL refuses root and then runs as another user, who has to be able to
	// enter.
	if err := os.Chmod(dir, 0o711); err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

// choose gives the parts with the names in list, all if it is "".
func choose(list string) ([]part, error) {
	all := parts()
	if list == "" {
		return all, nil
	}
	var chosen []part
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(p part) bool { return p.name == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("no part %q", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}
