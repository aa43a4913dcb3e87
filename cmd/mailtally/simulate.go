package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/mailtally/mailtally/internal/simulate"
)

// runSimulate plays the provider for a producer.
func runSimulate(ctx context.Context, i *invocation) error {
	rate := i.flags.Float64("rate", 100, "webhooks a second; 0 for as fast as the producer takes them")
	total := i.flags.Int("total", 0, "stop after this many webhooks; 0 for never")
	connections := i.flags.Int("connections", 16, "the most concurrent requests")
	url := i.flags.String("url", "", "the producer's endpoint (default: on HTTP_ADDR of this machine)")
	seed := i.flags.Uint64("seed", 0, "the same seed sends the same traffic; 0 for a random one")
	faults := i.flags.Bool("faults", true, "mix in forged, stale, unreadable and foreign webhooks")
	c, log, flush, err := i.begin(needsResend)
	if err != nil {
		return err
	}
	defer flush()
	if *url == "" {
		*url = webhookURL(c.HTTPAddr)
	}
	if !(*rate >= 0) { // NaN too
		return usageError{fmt.Errorf("-rate %v: want 0 or more", *rate)}
	}
	if *rate == 0 {
		*rate = simulate.Unlimited
	}
	simulator, err := simulate.New(simulate.Config{
		URL: *url, Secret: firstSecret(c), Rate: *rate, Total: *total, Connections: *connections, Seed: *seed, Faults: *faults,
		Failed: logFirst(log),
	})
	if err != nil {
		return usageError{err}
	}
	fmt.Fprintf(i.stdout, "sending webhooks to %s\n", *url)

	stopNumbers := stage(func(ctx context.Context) {
		eachInterval(ctx, func() { printTotals(i.stdout, simulator.Totals()) })
	})
	err = simulator.Run(ctx)
	stopNumbers()
	t := simulator.Totals()
	printTotals(i.stdout, t)
	if t.Unexpected > 0 || t.Ignored > 0 {
		flush()
		return fmt.Errorf("%d unexpected answers, %d webhooks never answered", t.Unexpected, t.Ignored)
	}
	if ctx.Err() != nil {
		return nil // ended by Ctrl-C, which is no failure
	}
	return err
}

func printTotals(w io.Writer, t simulate.Totals) {
	fmt.Fprintf(w, "%s  webhooks %d  accepted %d  unauthorized %d  refused %d  not answered %d  sent again %d  unexpected answers %d\n",
		time.Now().Format(time.TimeOnly), t.Webhooks, t.Accepted, t.Unauthorized, t.Refused, t.Failed, t.Resent, t.Unexpected)
}

// logFirst says what to do about the first failure with each status.
func logFirst(log *slog.Logger) func(status int, reason string) {
	var said sync.Map
	return func(status int, reason string) {
		if _, again := said.LoadOrStore(status, nil); again {
			return
		}
		switch {
		case status == 0:
			log.Warn("no answer, so webhooks are sent again: is a producer running, and is this its URL?", "error", reason)
		case status < 300:
			log.Warn("a webhook with a bad signature was accepted: does this URL belong to a producer?", "error", reason)
		case status == http.StatusUnauthorized:
			log.Warn("a signature was refused: is RESEND_WEBHOOK_SECRETS the producer's, and are the clocks right?", "error", reason)
		case status == http.StatusTooManyRequests || status >= 500:
			log.Warn("not accepted for now, so webhooks are sent again: does the producer's log say why?", "error", reason)
		default:
			log.Warn("unexpected answer: is this the URL of a producer, with the path /webhooks/resend?", "error", reason)
		}
	}
}

// webhookURL is the endpoint of a producer that listens on addr.
func webhookURL(addr string) string { return localURL(addr, "/webhooks/resend") }

// localURL is the URL of path for a client on this machine, given the address that a
// server listens on. The configuration has been checked, so addr is valid.
func localURL(addr, path string) string {
	host, port, _ := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + path
}
