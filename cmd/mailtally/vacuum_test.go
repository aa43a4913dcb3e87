package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	dto "github.com/prometheus/client_model/go"
)

// The value rises for as long as the same transaction holds back vacuum, up to its age if
// there is always another one, and restarts when nobody does.
func TestVacuumWatch_HeldBack(t *testing.T) {
	t.Parallel()
	start := time.Now()
	var w vacuumWatch
	for _, at := range []struct {
		second, oldest, next, want int64
	}{
		{0, 90, 100, 0},    // what was before the start is not known
		{10, 90, 200, 10},  // still the same
		{20, 100, 300, 0},  // that has ended; somebody since 10 s ago is there
		{30, 200, 400, 10}, // always somebody of the last 20 s
		{40, 300, 500, 0},
		{50, 500, 500, 0}, // nobody
		{60, 40, 50, 0},   // restored
		{70, 40, 60, 10},
	} {
		if got := w.seen(at.oldest, at.next, start.Add(time.Duration(at.second)*time.Second)); got != time.Duration(at.want)*time.Second {
			t.Errorf("after %d s: held back for %v, want %d s", at.second, got, at.want)
		}
	}
}

// A forgotten transaction is measured until it ends, and nothing is while PostgreSQL does
// not answer.
func TestVacuumWatch_Run(t *testing.T) {
	t.Parallel()
	environ, proxy := behindProxy(t, migrated(t))
	pool, reg := connect(t, environ["DATABASE_URL"]), newRegistry()
	w := newVacuumWatch(reg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(ctx, pool, 10*time.Millisecond, slog.New(slog.DiscardHandler))
	}()
	defer func() { cancel(); <-ended }()
	until := func(what string, is func(seconds float64) bool) {
		t.Helper()
		eventually(t, func() error {
			var m dto.Metric
			if err := w.held.Write(&m); err != nil {
				t.Fatal(err)
			}
			if got := m.GetGauge().GetValue(); !is(got) {
				return fmt.Errorf("it is %v, want it %s", got, what)
			}
			return nil
		})
	}
	tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT count(*) FROM mailtally.email"); err != nil {
		t.Fatal(err)
	}
	one[int64](t, pool, "SELECT pg_current_xact_id()::text::bigint")
	until("held back", func(s float64) bool { return s > 1 })
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	until("free", func(s float64) bool { return s < 1 })
	proxy.Away(true)
	until("unknown", math.IsNaN)
}
