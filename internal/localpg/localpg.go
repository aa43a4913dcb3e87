// Package localpg runs a real PostgreSQL server of its own on loopback, for
// mailtally dev and for the tests.
//
// It needs nothing prepared: it uses the server that the machine has, of
// version 14 or newer, and fetches one where there is none. It works as an
// ordinary user and as root, though PostgreSQL itself refuses root: the server
// then runs as another user.
//
// The server is safe on a shared machine: it listens on 127.0.0.1 alone, has no
// Unix socket, and wants a password that only its own user can read.
//
// Whoever calls Start on a folder must hold a lock on it, or be its only user
// in another way. So a server that already runs on that folder can only be one
// that an earlier process lost, and Start stops it.
package localpg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// superuser is the role initdb makes.
	superuser = "mailtally"

	// After SIGQUIT, PostgreSQL itself kills processes that are still there
	// five seconds later; only past that is SIGKILL of any use.
	immediateTimeout = 6 * time.Second

	// A killed postmaster's children see its death at once, and end.
	killTimeout = 5 * time.Second

	// portAttempts bounds the retries where others take the chosen port
	// between the choice and the server's bind.
	portAttempts = 10
)

// Options of Start. The zero value of each field but Dir is usable.
type Options struct {
	// Dir is the parent folder of the cluster. Its data lives in Dir/data, the
	// server's log in Dir/postgresql.log. Made if missing, reused if it holds
	// a cluster.
	Dir string

	// BinDir is the folder with postgres and initdb. "" finds one, or fetches
	// it.
	BinDir string

	// Settings are extra server settings, as in postgresql.conf. Those that
	// keep the server on loopback can't be changed.
	Settings map[string]string

	// Log hears what takes time or surprises: a download, a lost server that
	// is stopped. nil is silent.
	Log *slog.Logger
}

// Server is a running PostgreSQL server.
type Server struct {
	cluster  *cluster
	binaries binaries
	process  *process
	log      *serverLog
	port     int
	password string

	stopping atomic.Bool
	done     chan struct{}
	err      error // valid once done is closed
}

// Start runs the server of the cluster in o.Dir and returns once it answers
// queries. ctx bounds the start alone: a started server runs until Stop, or
// until this process ends.
//
// After an error no process is left.
func Start(ctx context.Context, o Options) (*Server, error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}

	c, err := openCluster(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL folder %q: %w", o.Dir, err)
	}
	defer c.close()

	if err := c.stopOrphan(ctx, log); err != nil {
		return nil, fmt.Errorf("stop the PostgreSQL server that still runs in %s: %w", c.dir, err)
	}
	major, err := c.major()
	if err != nil {
		return nil, err
	}
	bin, err := findBinaries(ctx, o.BinDir, major, c, log)
	if err != nil {
		return nil, err
	}
	if major == 0 {
		if err := c.init(ctx, bin, o.Settings["fsync"] == "off"); err != nil {
			return nil, err
		}
	}
	password, err := c.password()
	if err != nil {
		return nil, err
	}
	return startServer(ctx, c, bin, password, o.Settings)
}

// startServer starts the server on the port of last time, and on others where
// that one is taken by now.
func startServer(ctx context.Context, c *cluster, bin binaries, password string, settings map[string]string) (*Server, error) {
	port := c.lastPort()
	for attempt := 1; ; attempt++ {
		if port == 0 {
			var err error
			if port, err = freePort(ctx); err != nil {
				return nil, fmt.Errorf("find a free port on 127.0.0.1: %w", err)
			}
		}
		s, err := launch(ctx, c, bin, password, port, settings)
		if err != nil {
			return nil, err
		}
		err = s.waitReady(ctx)
		if err == nil {
			err = c.rememberPort(port)
		}
		if err == nil {
			return s, nil
		}
		// The caller's context may be what ended, so it can't bound the stop.
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), immediateTimeout)
		stopErr := s.Stop(stop)
		cancel()
		if errors.Is(err, errExited) && s.log.portTaken() && attempt < portAttempts {
			port = 0
			continue
		}
		return nil, errors.Join(fmt.Errorf("start PostgreSQL %s in %s: %w", bin.version, c.dir, err), stopErr)
	}
}

// URL returns the URL of a database of this server, for libpq and pgx. It
// contains the password.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Version returns the server's version, such as "15.18".
func (s *Server) Version() string { return s.binaries.version }

// Pid returns the process id of the server's first process, whose children are
// all the others.
func (s *Server) Pid() int { return s.process.cmd.Process.Pid }

// BinDir returns the folder of the server's programs, psql possibly among them.
func (s *Server) BinDir() string { return s.binaries.dir }

// Done is closed when the server has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns, once Done is closed, why the server ended though nobody had
// called Stop. It is nil before, and after a Stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Stop shuts the server down: open transactions are rolled back and the data
// is flushed. When ctx ends before that is done, Stop ends the server without
// a flush, which loses nothing committed but makes the next start recover, and
// returns an error. It returns when no process of the server is left.
//
// Stop may be called more than once, and at the same time.
func (s *Server) Stop(ctx context.Context) error {
	s.stopping.Store(true)

	s.process.signal(syscall.SIGINT)
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	s.process.signal(syscall.SIGQUIT)
	if !s.endsWithin(immediateTimeout) {
		s.process.signal(syscall.SIGKILL)
		if !s.endsWithin(killTimeout) {
			return fmt.Errorf("stop PostgreSQL in %s: a process is still there after SIGKILL of its postmaster %d", s.cluster.dir, s.process.pid())
		}
	}
	return fmt.Errorf("stop PostgreSQL in %s: ended without a flush, the next start recovers: %w", s.cluster.dir, context.Cause(ctx))
}

func (s *Server) endsWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.done:
		return true
	case <-timer.C:
		return false
	}
}

// launch starts the server's process; it is not ready yet.
func launch(ctx context.Context, c *cluster, bin binaries, password string, port int, settings map[string]string) (*Server, error) {
	out, err := c.openLog()
	if err != nil {
		return nil, err
	}
	defer out.close() // The process has its own copy.

	// The process must outlive ctx, so it is not exec.CommandContext.
	cmd := c.command(context.WithoutCancel(ctx), bin.postgres(), serverArgs(c.data(), port, settings)...)
	cmd.Stdout, cmd.Stderr = out.file, out.file
	p, err := startProcess(cmd)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", bin.postgres(), err)
	}
	s := &Server{
		cluster: c, binaries: bin, process: p, log: out,
		port: port, password: password, done: make(chan struct{}),
	}
	go func() {
		<-p.done
		if !s.stopping.Load() {
			s.err = fmt.Errorf("PostgreSQL in %s ended by itself: %w\n%s", c.dir, p.exit(), out.tail())
		}
		close(s.done)
	}()
	return s, nil
}

// freePort returns a port of 127.0.0.1 that nobody listens on at the moment.
func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
