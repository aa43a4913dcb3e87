package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/mailtally/mailtally/internal/simulate"
)

// runSimulate plays the provider for a producer.
func runSimulate(ctx context.Context, args []string, environ map[string]string, stdout, _ io.Writer) error {
	flags := flag.NewFlagSet("simulate", flag.ContinueOnError)
	rate := flags.Float64("rate", 100, "webhooks a second; 0 for as fast as the producer takes them")
	total := flags.Int("total", 0, "stop after so many webhooks; 0 for never")
	connections := flags.Int("connections", 16, "concurrent requests at the most")
	url := flags.String("url", "", "the producer's endpoint (default: on HTTP_ADDR of this machine)")
	seed := flags.Uint64("seed", 0, "the same seed sends the same traffic; 0 for a random one")
	faults := flags.Bool("faults", true, "mix in forged, stale, unreadable and foreign webhooks")
	if err := parseFlags(flags, args, stdout); err != nil {
		return err
	}
	c, err := loadConfig(environ, needsResend)
	if err != nil {
		return err
	}
	if *url == "" {
		*url, err = webhookURL(c.HTTPAddr)
		if err != nil {
			return usageError{err}
		}
	}
	if *rate == 0 {
		*rate = simulate.Unlimited
	}
	simulator, err := simulate.New(simulate.Config{
		URL: *url, Secret: firstSecret(c), Rate: *rate, Total: *total, Connections: *connections, Seed: *seed, Faults: *faults,
	})
	if err != nil {
		return usageError{err}
	}
	fmt.Fprintf(stdout, "sending webhooks to %s\n", *url)

	finished := make(chan error, 1)
	go func() { finished <- simulator.Run(ctx) }()
	ticker := time.NewTicker(statusInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			printTotals(stdout, simulator.Totals())
		case err := <-finished:
			printTotals(stdout, simulator.Totals())
			if ctx.Err() != nil {
				return nil // ended by Ctrl-C, which is no failure
			}
			return err
		}
	}
}

func printTotals(w io.Writer, t simulate.Totals) {
	fmt.Fprintf(w, "%s  webhooks %d  accepted %d  unauthorized %d  refused %d  not answered %d  sent again %d  unexpected answers %d\n",
		time.Now().Format(time.TimeOnly), t.Webhooks, t.Accepted, t.Unauthorized, t.Refused, t.Failed, t.Resent, t.Unexpected)
}

// webhookURL is the endpoint of a producer that listens on addr.
func webhookURL(addr string) (string, error) {
	return localURL("HTTP_ADDR", addr, "/webhooks/resend")
}

// localURL is where this machine finds path on a server that listens on addr, which
// variable holds.
func localURL(variable, addr, path string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("%s: %w", variable, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + path, nil
}
