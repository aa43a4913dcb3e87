// Package localpg runs a real PostgreSQL server of its own on loopback, for
// mailtally dev, the tests and the benchmarks.
//
// It needs no preparation: it uses the machine's server, of version 14 or newer, and
// downloads one if there is none. It works as an ordinary user and as root, although
// PostgreSQL itself refuses root: the server then runs as another user.
//
// The server is safe on a shared machine: it listens on 127.0.0.1 only, has no Unix
// socket, and requires a password that only its own user can read.
//
// Whoever calls Start on a folder must hold a lock on it, or be its only user in some
// other way. So a server that already runs on that folder can only be one that an
// earlier process left behind, and Start stops it.
package localpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// superuser is the role initdb makes.
	superuser = "mailtally"

	// After SIGQUIT, PostgreSQL itself kills processes that are still there five
	// seconds later; SIGKILL helps only after that.
	immediateTimeout = 6 * time.Second

	// orphanTimeout is how long a start retries while others take its port, or while a
	// server left by an earlier process has not ended yet.
	orphanTimeout = 15 * time.Second

	// maxLogTail is how much of the server's log an error quotes.
	maxLogTail = 4 << 10
)

// Options of Start. The zero value of each field but Dir is usable.
type Options struct {
	// Dir is the parent folder of the cluster. Its data is in Dir/data, the log of the
	// latest server in Dir/postgresql.log. It is created if missing, and reused if it
	// contains a cluster.
	Dir string

	// BinDir is the folder with postgres, initdb and pg_ctl. If empty, one is found or
	// downloaded.
	BinDir string

	// Settings are extra server settings, as in postgresql.conf. Those that keep the
	// server on loopback can't be changed.
	Settings map[string]string

	// Log gets what takes time: a download. nil means no log.
	Log *slog.Logger
}

// Server is a running PostgreSQL server.
type Server struct {
	cluster  *cluster
	binaries binaries
	process  *process
	port     int
	password string

	stopping atomic.Bool
	done     chan struct{}
	err      error // valid once done is closed
}

// Start runs the server of the cluster in o.Dir and returns once it answers queries.
// ctx bounds only the start: a started server runs until Stop, or until this process
// ends. After an error no process is left.
func Start(ctx context.Context, o Options) (*Server, error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c, err := openCluster(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL folder %q: %w", o.Dir, err)
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
	password, err := os.ReadFile(c.path(passwordFile))
	if err != nil {
		return nil, fmt.Errorf("read PostgreSQL's password: %w: put it back, or remove %s if it holds nothing you need", err, c.path(dataDir))
	}
	// The same port as last time, so that URLs and open psql sessions keep working
	// across restarts.
	s := &Server{cluster: c, binaries: bin, port: c.lastPort(), password: strings.TrimSpace(string(password))}
	if err := s.stopOrphan(ctx); err != nil {
		return nil, err
	}
	for begun := time.Now(); ; {
		if s.port == 0 {
			if s.port, err = freePort(0); err != nil {
				return nil, fmt.Errorf("find a free port on 127.0.0.1: %w", err)
			}
		}
		err := s.start(ctx, o.Settings)
		if err == nil {
			return s, nil
		}
		_, portTaken := freePort(s.port)
		_, noLock := os.Stat(c.path(filepath.Join(dataDir, "postmaster.pid")))
		switch {
		case ctx.Err() != nil || time.Since(begun) > orphanTimeout:
		case portTaken != nil:
			s.port = 0 // others took it
			continue
		case noLock == nil: // an orphan that is about to end
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		return nil, fmt.Errorf("start PostgreSQL %s in %s: %w", bin.version, c.dir, err)
	}
}

// stopOrphan stops a server that runs on this data and answers: the package's comment
// says why it can only be a leftover. It accepts the cluster's password, which proves
// that the process named in postmaster.pid is not another one by now; pg_ctl does not
// check that.
func (s *Server) stopOrphan(ctx context.Context) error {
	if s.port == 0 {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := pgx.Connect(asking, s.URL("postgres"))
	if err != nil {
		return nil
	}
	_ = conn.Close(asking)
	if err := s.cluster.run(ctx, s.binaries.program("pg_ctl"), "stop", "--pgdata="+s.cluster.path(dataDir), "--mode=immediate"); err != nil {
		return fmt.Errorf("stop the PostgreSQL server that an earlier process left in %s: %w", s.cluster.dir, err)
	}
	return nil
}

// start runs the server's process and returns when it answers queries. After an error
// it has ended.
func (s *Server) start(ctx context.Context, settings map[string]string) error {
	log, err := os.OpenFile(s.cluster.path(logFile), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close() // The process has its own copy.
	s.done, s.err = make(chan struct{}), nil
	s.stopping.Store(false)
	args := []string{"-D", s.cluster.path(dataDir)}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	// If a setting is given twice, PostgreSQL uses the last: so the caller can't move
	// the server off loopback.
	for _, setting := range []string{
		"port=" + strconv.Itoa(s.port), "listen_addresses=127.0.0.1",
		"unix_socket_directories=", // a path may have no more than some 100 bytes, and TCP is enough
		"log_destination=stderr", "logging_collector=off",
	} {
		args = append(args, "-c", setting)
	}
	cmd := s.cluster.command(context.WithoutCancel(ctx), s.binaries.program("postgres"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	if s.process, err = startProcess(cmd); err != nil {
		return fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	go func() {
		<-s.process.done
		if !s.stopping.Load() {
			s.err = fmt.Errorf("PostgreSQL in %s ended by itself: %w\n%s", s.cluster.dir, s.process.exit(), s.logTail())
		}
		close(s.done)
	}()
	if err = s.waitReady(ctx); err == nil {
		err = s.cluster.rememberPort(s.port)
	}
	if err != nil {
		// The caller's context may be what ended, so it can't bound the stop.
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), immediateTimeout)
		defer cancel()
		err = errors.Join(err, s.Stop(stop))
	}
	return err
}

// waitReady returns once the server answers a query. Anything else that may answer on
// its port does not have its password.
func (s *Server) waitReady(ctx context.Context) error {
	const first, last = 2 * time.Millisecond, 50 * time.Millisecond
	asking, cancel := context.WithCancel(ctx) // stops asking when the server has ended
	defer cancel()
	ended := s.done // which a later start replaces
	go func() {
		select {
		case <-ended:
			cancel()
		case <-asking.Done():
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for pause := first; ; pause = min(2*pause, last) {
		select {
		case <-s.done:
			return fmt.Errorf("the server exited: %w\n%s", s.process.exit(), s.logTail())
		case <-ctx.Done():
			return fmt.Errorf("wait until it answers: %w\n%s", context.Cause(ctx), s.logTail())
		case <-timer.C:
		}
		conn, err := pgx.Connect(asking, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(refused.Code, "28") {
			return fmt.Errorf("log in with the password of %s: %w", s.cluster.path(passwordFile), err)
		}
		timer.Reset(pause)
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

// Err returns, once Done is closed, why the server ended if nobody had called Stop. It
// is nil before that, and after a Stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Stop shuts the server down: open transactions are rolled back and the data is
// flushed. If ctx ends before that is done, Stop ends the server without a flush, which
// loses nothing committed but makes the next start recover, and returns an error. Stop
// may be called more than once, and concurrently.
func (s *Server) Stop(ctx context.Context) error {
	s.stopping.Store(true)
	s.process.signal(syscall.SIGINT)
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	s.process.signal(syscall.SIGQUIT)
	kill := time.AfterFunc(immediateTimeout, func() { s.process.signal(syscall.SIGKILL) })
	defer kill.Stop()
	<-s.done
	return fmt.Errorf("stop PostgreSQL in %s: ended without a flush, the next start recovers: %w", s.cluster.dir, context.Cause(ctx))
}

// logTail is the end of the server's log, for an error message.
func (s *Server) logTail() string {
	name := s.cluster.path(logFile)
	file, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if size, err := file.Seek(0, io.SeekEnd); err == nil && size > 0 {
		from := max(0, size-maxLogTail)
		text, _ := io.ReadAll(io.NewSectionReader(file, from, size-from))
		return "the end of " + name + ":\n" + strings.TrimSpace(string(text))
	}
	return "(it logged nothing to " + name + ")"
}

// freePort returns a port of 127.0.0.1 that nobody listens on at the moment: any, or
// port if it is not 0.
func freePort(port int) (int, error) {
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
