package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// warmUps is how often a worker works its topic off before it is measured.
	warmUps = 2
	// quiet is how long no transaction has ended when the final rows are counted.
	quiet = time.Second
)

// peerTables makes a database with the tables of all of them, none of which has
// rows.
func (b *bench) peerTables(ctx context.Context, db *database) (*pgxpool.Pool, error) {
	pool, err := db.fresh(ctx, 4)
	if err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, connectTable); err != nil {
		pool.Close()
		return nil, fmt.Errorf("create the sink's table: %w", err)
	}
	return pool, nil
}

// peerTimes is the CPU time that has been used until some moment.
func peerTimes(program *process, db *database, k *kafka) (t cpuTimes, err error) {
	if t.members, err = cpu(program.cmd.Process.Pid); err != nil {
		return t, err
	}
	if t.postgres, err = cpu(db.Pid()); err != nil {
		return t, err
	}
	t.kafka, err = k.cpu()
	return t, err
}

// drainPeer has p work its topic off, adds to r what that took, and says how the
// final rows are.
func (b *bench) drainPeer(ctx context.Context, db *database, k *kafka, p *peer, group string, r *row) (string, error) {
	pool, err := b.peerTables(ctx, db)
	if err != nil {
		return "", err
	}
	defer pool.Close()
	program, end, err := p.begin(ctx, group)
	if err != nil {
		return "", err
	}
	defer end()
	first, err := p.waitCounted(ctx, pool, program, 1)
	if err != nil {
		return "", err
	}
	start := time.Now()
	before, err := peerTimes(program, db, k)
	if err != nil {
		return "", err
	}
	if err := p.waitDone(ctx, pool, program); err != nil {
		return "", err
	}
	after, err := peerTimes(program, db, k)
	if err != nil {
		return "", err
	}
	resident, err := residentMB(program.cmd.Process.Pid)
	if err != nil {
		return "", err
	}
	if err := end(); err != nil {
		return "", err
	}
	finish, err := p.lastChange(ctx, pool)
	if err != nil {
		return "", err
	}

	// Those that were there at the first look are not in the time, nor are the
	// repeats among them.
	deliveries := float64(len(p.deliveries)) * float64(p.events-first) / float64(p.events)
	r.measured("rate", "deliveries/s", deliveries/finish.Sub(start).Seconds())
	million := deliveries / 1e6
	r.measured("its own", "CPU s a million", (after.members-before.members).Seconds()/million)
	r.measured("PostgreSQL", "CPU s a million", (after.postgres-before.postgres).Seconds()/million)
	r.measured("Kafka", "CPU s a million", (after.kafka-before.kafka).Seconds()/million)
	r.measured("most resident", "MB", resident)
	return b.checked(ctx, pool, p)
}

// begin has p consume its topic from the beginning, until end is called, which
// may be more than once.
func (p *peer) begin(ctx context.Context, group string) (program *process, end func() error, err error) {
	if p.connect != nil {
		return p.connect.process, func() error { return p.connect.suspend(ctx) }, p.connect.resume(ctx)
	}
	program, err = p.start(ctx, group)
	return program, func() error { program.stop(); return nil }, err
}

// warmConnect starts the worker that is measured, and has it work its topic off
// some times.
func (b *bench) warmConnect(ctx context.Context, db *database, k *kafka, p *peer) (c *connectRunner, err error) {
	defer func() {
		if err != nil && c != nil {
			c.kill()
		}
	}()
	for range warmUps {
		pool, err := b.peerTables(ctx, db)
		if err != nil {
			return c, err
		}
		defer pool.Close()
		if c == nil {
			c, err = b.startConnect(ctx, k, "peers-warm", db.URL("bench"))
		} else {
			err = c.resume(ctx)
		}
		if err != nil {
			return c, err
		}
		if _, err := p.waitCounted(ctx, pool, c.process, 1); err != nil {
			return c, err
		}
		if err := p.waitDone(ctx, pool, c.process); err != nil {
			return c, err
		}
		if err := c.suspend(ctx); err != nil {
			return c, err
		}
	}
	return c, nil
}

// waitCounted waits until the tables hold so many events, and says how many they
// hold then.
func (p *peer) waitCounted(ctx context.Context, pool *pgxpool.Pool, program *process, least int) (n int, err error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for {
		if err := pool.QueryRow(ctx, p.counted).Scan(&n); err != nil {
			return n, fmt.Errorf("count the events: %w", err)
		}
		if n >= least {
			return n, nil
		}
		if time.Since(start) > 2*standstill { // not only until something happens
			return n, fmt.Errorf("%d events are there after %s, want %d: %s", n, 2*standstill, least, program.tail())
		}
		select {
		case <-tick.C:
		case <-program.done:
			return n, fmt.Errorf("it ended: %s", program.tail())
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
}

// waitDone waits until all events are there and no transaction follows. The rows
// are not counted as long as the program works, since that would slow it: it is
// watched by the number of the next transaction that writes, any of the server's,
// which at the worst has it wait for longer. Where all stands still before, the
// events that are missing are lost, which the check finds.
func (p *peer) waitDone(ctx context.Context, pool *pgxpool.Pool, program *process) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last, next int64
	changed, counted := time.Now(), false
	for {
		if err := pool.QueryRow(ctx, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").Scan(&next); err != nil {
			return fmt.Errorf("ask for the next transaction's number: %w", err)
		}
		switch idle := time.Since(changed); {
		case next != last:
			last, changed, counted = next, time.Now(), false
		case idle > standstill:
			return nil
		case idle > quiet && !counted:
			counted = true // once is enough, as long as nothing is written
			var n int
			if err := pool.QueryRow(ctx, p.counted).Scan(&n); err != nil {
				return fmt.Errorf("count the events: %w", err)
			}
			if n >= p.events {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-program.done:
			return fmt.Errorf("it ended: %s", program.tail())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lastChange is when the last of the events was committed.
func (p *peer) lastChange(ctx context.Context, pool *pgxpool.Pool) (at time.Time, err error) {
	if err := pool.QueryRow(ctx, "SELECT max(pg_xact_commit_timestamp(xmin)) FROM "+p.table).Scan(&at); err != nil {
		return at, fmt.Errorf("ask for the time of the last event: %w", err)
	}
	return at, nil
}

// killPeers has all of them work off their topics once more, at the same time,
// kills each half way, starts another, and says how the final rows are. That
// there is a note on each does not depend on the others, nor on the error.
func (b *bench) killPeers(ctx context.Context, db *database, all []*peer) ([]string, error) {
	notes := slices.Repeat([]string{"not known, the test failed"}, len(all))
	pool, err := b.peerTables(ctx, db)
	if err != nil {
		return notes, err
	}
	defer pool.Close()
	var running sync.WaitGroup
	failures := make([]error, len(all))
	for i, p := range all {
		running.Go(func() {
			note, err := b.killed(ctx, pool, p, fmt.Sprint("peers-killed-", i))
			if err != nil {
				failures[i] = fmt.Errorf("%s, killed half way: %w", p.name, err)
				return
			}
			notes[i] = note
		})
	}
	running.Wait()
	return notes, errors.Join(failures...)
}

// killed has p work off its topic, with a kill half way.
func (b *bench) killed(ctx context.Context, pool *pgxpool.Pool, p *peer, group string) (string, error) {
	first, err := p.start(ctx, group)
	if err != nil {
		return "", err
	}
	defer first.kill()
	if _, err := p.waitCounted(ctx, pool, first, p.events/2); err != nil {
		return "", err
	}
	first.kill()
	second, err := p.start(ctx, group)
	if err != nil {
		return "", err
	}
	defer second.kill()
	// It waits for the first one's session to end, which is shorter than a
	// standstill.
	if err := p.waitDone(ctx, pool, second); err != nil {
		return "", err
	}
	return b.checked(ctx, pool, p)
}
