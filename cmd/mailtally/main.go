// Command mailtally turns email providers' webhooks into numbers that are
// right. See the README, or run it without arguments.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/caarlos0/env/v11"

	"github.com/mailtally/mailtally/consumer"
)

func main() {
	// A second signal changes nothing, except that it ends SHUTDOWN_DELAY: wrappers such
	// as timeout send two at once, and every step of stopping is bounded.
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup's wish; otherwise the terminal is gone
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, _ := signal.NotifyContext(context.Background(), signals...)
	// Not in run: tests call that several times in one process.
	if len(os.Args) > 1 && os.Args[1] == "consumer" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(consumer.MemoryLimit)
	}
	os.Exit(run(ctx, os.Args[1:], env.ToMap(os.Environ()), os.Stdout, os.Stderr))
}

func commands() []command {
	return []command{
		{name: "dev", about: "everything in one process, with simulated traffic: try it", run: runDev, defaults: devDefaults()},
		{name: "producer", about: "the webhook gateway: HTTP to Kafka", run: runProducer},
		{name: "consumer", about: "one consumer-group member: Kafka to PostgreSQL", run: runConsumer},
		{name: "migrate", about: "create or upgrade the schema, create the topics", run: runMigrate},
		{name: "simulate", about: "send realistic signed webhooks to a producer", run: runSimulate},
		{name: "healthcheck", about: "ask a role on ADMIN_ADDR whether it is ready: for containers", run: runHealthcheck},
		{name: "version", about: "print which version this is", run: runVersion},
	}
}

func usage() string {
	var b strings.Builder
	b.WriteString("mailtally turns email providers' webhooks into numbers that are right.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "    mailtally %-11s  %s\n", c.name, c.about)
	}
	b.WriteString("\nmailtally COMMAND -h lists its flags and the environment variables that it reads.\n")
	return b.String()
}

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2 // wrong arguments or configuration: a retry cannot help
)

// usageError is a mistake by the caller of the program.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// run is the program. It returns the exit code once all it started has ended.
func run(ctx context.Context, args []string, environ map[string]string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage())
		return exitUsage
	}
	name, rest := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(rest) == 0 {
			fmt.Fprint(stdout, usage())
			return 0
		}
		name, rest = rest[0], []string{"-h"}
	case "-v", "-version", "--version":
		name = "version"
	}
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	if i < 0 {
		fmt.Fprintf(stderr, "mailtally: no command %q\n\n%s", name, usage())
		return exitUsage
	}
	this := &invocation{
		command: all[i], flags: flag.NewFlagSet(name, flag.ContinueOnError),
		args: rest, environ: environ, stdout: stdout, stderr: stderr,
	}
	err := this.run(ctx, this)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	this.report(err)
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitFailure
}
