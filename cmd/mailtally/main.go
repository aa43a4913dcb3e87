// Command mailtally turns email providers' webhooks into numbers that are
// right. See the README, or run it without arguments.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/caarlos0/env/v11"
)

func main() {
	// A second signal changes nothing: wrappers such as timeout send two at once,
	// and every step of stopping is bounded.
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	os.Exit(run(ctx, os.Args[1:], env.ToMap(os.Environ()), os.Stdout, os.Stderr))
}

const usage = `mailtally turns email providers' webhooks into numbers that are right.

    mailtally dev          everything in one process, with simulated traffic: try it
    mailtally producer     the webhook gateway: HTTP to Kafka
    mailtally consumer     one consumer-group member: Kafka to PostgreSQL
    mailtally migrate      create or upgrade the schema, create the topics
    mailtally simulate     send realistic signed webhooks to a producer
    mailtally healthcheck  ask a role on ADMIN_ADDR whether it is ready: for containers

dev and simulate take flags: mailtally dev -h. Everything else is set by
environment variables; the README lists them.
`

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2 // wrong arguments or configuration: trying again is of no use
)

// usageError is an error of whoever called the program.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// run is the program: it returns the exit code when all it started has ended.
func run(ctx context.Context, args []string, environ map[string]string, stdout, stderr io.Writer) int {
	commands := map[string]func(context.Context, []string, map[string]string, io.Writer, io.Writer) error{
		"dev":         runDev,
		"producer":    runProducer,
		"consumer":    runConsumer,
		"migrate":     runMigrate,
		"simulate":    runSimulate,
		"healthcheck": runHealthcheck,
	}
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return 0
	}
	command, known := commands[args[0]]
	if !known {
		fmt.Fprintf(stderr, "mailtally: no command %q\n\n%s", args[0], usage)
		return exitUsage
	}
	err := command(ctx, args[1:], environ, stdout, stderr)
	var wrongUse usageError
	switch {
	case err == nil, errors.Is(err, errHelpShown):
		return 0
	case errors.As(err, &wrongUse):
		fmt.Fprintf(stderr, "mailtally %s: %v\n", args[0], err)
		return exitUsage
	default:
		fmt.Fprintf(stderr, "mailtally %s: %v\n", args[0], err)
		return exitFailure
	}
}
