package main

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// How long a server that shuts down waits for the requests in flight.
	webhookDrain = 10 * time.Second // longer than a webhook waits for Kafka
	adminDrain   = time.Second

	// roleStopTimeout bounds all steps of stopping a producer or a member together.
	// Each step is bounded by less; whoever sent SIGTERM sends SIGKILL sooner or later.
	roleStopTimeout = 19 * time.Second
)

// listen listens on the address in variable, until the end at the latest.
func (l *lifecycle) listen(variable, addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %s is in use: stop what listens there, or choose another port (127.0.0.1:0 takes a free one)", variable, addr)
	case err != nil:
		return nil, fmt.Errorf("%s: listen on %q: %w", variable, addr, err)
	}
	l.onEnd(variable, 0, func() error { listener.Close(); return nil }) // its server has closed it already
	return listener, nil
}

// serving says how a port is served.
type serving struct {
	connections int           // the most at the same moment
	idle        time.Duration // how long a connection may be idle between requests
	delay       time.Duration // how long requests are still accepted at the end, until load balancers have noticed
	drain       time.Duration // how long those in flight are waited for then
}

func adminServing() serving { return serving{adminConnections(), 2 * time.Minute, 0, adminDrain} }

// serve answers requests on listener until its turn to end. Then it keeps serving for a while,
// but asks each client to come back on another connection: load balancers need some
// seconds to send requests elsewhere (kubernetes/kubernetes#20473).
func (l *lifecycle) serve(name string, listener net.Listener, handler http.Handler, how serving) {
	log := l.log.With("component", name)
	connections := newConnections(listener, how.connections, log)
	var ending atomic.Bool
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ending.Load() {
				w.Header().Set("Connection", "close")
			}
			handler.ServeHTTP(w, r)
		}),
		// How long a client has to send its request, and then to take the answer.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      25 * time.Second, // from the end of the header, so it includes reading the body and waiting for Kafka
		IdleTimeout:       how.idle,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          stdlog.New(serverLog{log}, "", 0),
	}
	connections.install(server)
	l.run(name, func(ctx context.Context) error {
		failed := make(chan error, 1)
		go func() { failed <- server.Serve(connections) }()
		select {
		case err := <-failed:
			return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
		case <-ctx.Done():
		}
		ending.Store(true)
		if how.delay > 0 {
			hurried, done := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGINT, syscall.SIGTERM)
			defer done()
			log.Info("stopping: requests are still accepted until load balancers have noticed; another signal ends the wait", "duration", how.delay.String())
			select {
			case <-time.After(how.delay):
			case <-hurried.Done():
			case err := <-failed:
				return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
			}
		}
		log.Info("stopping: no more requests are accepted")
		start := time.Now()
		draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), how.drain)
		defer cancel()
		if err := server.Shutdown(draining); err != nil {
			// Among them connections without a request so far.
			log.Warn("connections cut that did not end in time: their clients retry", "duration", since(start), "error", err)
			server.Close()
		} else {
			log.Info("drained: the requests in flight are answered", "duration", since(start))
		}
		<-failed // ErrServerClosed
		return nil
	})
}

// serverLog passes on net/http's own log lines. A client's fault, and the address it
// came from, are of no interest.
type serverLog struct{ log *slog.Logger }

func (s serverLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if rest, isPanic := strings.CutPrefix(text, "http: panic serving "); isPanic {
		_, what, _ := strings.Cut(rest, ": ") // after the client's address
		s.log.Error("request handler panicked: its request got no answer", "error", what)
	} else if strings.HasPrefix(text, "http: Accept error: ") {
		s.log.Warn("connections cannot be accepted: retrying", "error", text)
	} else {
		s.log.Debug("message from net/http", "error", text)
	}
	return len(line), nil
}
