package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

// readyTimeout bounds how long /readyz waits for an answer.
const readyTimeout = 2 * time.Second

// check is a dependency that a process cannot work without.
type check struct {
	name  string
	ready func(context.Context) error
}

// answer runs the check until ctx ends, even if the check itself takes longer: Kafka's
// client keeps dialing a broker that hangs after ctx has ended. That goroutine ends by
// itself.
func (c check) answer(ctx context.Context) error {
	said := make(chan error, 1)
	go func() { said <- c.ready(ctx) }()
	select {
	case err := <-said:
		return err
	case <-ctx.Done():
		return fmt.Errorf("no answer within %v", readyTimeout)
	}
}

// newRegistry makes a process's registry.
func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// adminHandler serves the admin port:
//
//	/          the live page, which draws /metrics
//	/metrics   for Prometheus
//	/healthz   200 while the process lives: a restart would fix nothing else
//	/readyz    200 while all its dependencies answer, else 503 and the one that does not;
//	           503 too from when running has ended
func adminHandler(running context.Context, reg *prometheus.Registry, checks ...check) http.Handler {
	mux := http.NewServeMux()
	mountPage(mux)
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if running.Err() != nil {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		lines := make([]string, len(checks))
		var group errgroup.Group
		for i, c := range checks {
			group.Go(func() error {
				err := c.answer(ctx)
				lines[i] = c.name + ": ok"
				if err != nil {
					lines[i] = c.name + ": " + safeText(err)
				}
				return err
			})
		}
		if group.Wait() != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, strings.Join(lines, "\n"))
	})
	return mux
}
