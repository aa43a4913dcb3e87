// Package testpg gives tests a real PostgreSQL: one server per test process, started on
// first use, with a database for each test, copied from a template.
//
//	func TestMain(m *testing.M) { os.Exit(testpg.Run(m)) }
//
//	func TestStore(t *testing.T) {
//		url := testpg.New(t, "mailtally", migrate)
//		…
//	}
//
// A machine without PostgreSQL fails the tests. They are never skipped.
//
// The server is the machine's; if there is none, one is downloaded. With
// MAILTALLY_TEST_POSTGRES=18 in the environment, one of that major version is
// downloaded instead.
package testpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/mailtally/mailtally/internal/localpg"
)

const (
	// A first start may fetch PostgreSQL from the network.
	startTimeout = 5 * time.Minute
	stopTimeout  = 30 * time.Second
	sqlTimeout   = time.Minute
)

// shared is this test process's server. A package variable is the only way for TestMain
// and the tests to share it.
var shared server

// server is a server that starts at its first use, and the templates in it.
type server struct {
	mu        sync.Mutex
	dir       string
	pg        *localpg.Server
	err       error // why it did not start, so that the next test does not try again
	templates map[string]*template
	databases int
	granting  sync.Mutex // roles belong to the whole server
}

// Run runs the tests of a package, then stops their server, and fails if a
// goroutine is left. Its result is for os.Exit.
func Run(m goleak.TestingM) int {
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintf(os.Stderr, "testpg: %v\n", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintf(os.Stderr, "goleak: errors on successful test run: %v\n", err)
			code = 1
		}
	}
	return code
}

// Server starts another server, with its own settings, for as long as the test or
// benchmark runs. Unlike the shared one it has PostgreSQL's defaults, durability
// included.
func Server(tb testing.TB, settings map[string]string) *localpg.Server {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), startTimeout)
	defer cancel()
	pg, err := startIn(ctx, Dir(tb), settings)
	if err != nil {
		tb.Fatalf("testpg: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := pg.Stop(ctx); err != nil {
			tb.Errorf("testpg: %v", err)
		}
	})
	return pg
}

// Dir returns a temporary folder that also works as localpg's Options.Dir when the
// tests run as root: the folders made by package testing are closed to other users, and
// so to the user that runs the server.
func Dir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "mailtally-test-")
	if err != nil {
		tb.Fatalf("testpg: %v", err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("testpg: %v", err)
		}
	})
	return dir
}

// start starts the server, once.
func (s *server) start() (*localpg.Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pg != nil || s.err != nil {
		return s.pg, s.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if s.dir, s.err = os.MkdirTemp("", "mailtally-test-"); s.err != nil {
		return nil, s.err
	}
	s.pg, s.err = startIn(ctx, s.dir, map[string]string{
		// The data need not survive a crash of the machine; a commit still waits as
		// usual.
		"fsync":            "off",
		"full_page_writes": "off",
		"max_connections":  "200",
		"shared_buffers":   "128MB",
	})
	return s.pg, s.err
}

// startIn starts a server of the version that the environment asks for.
func startIn(ctx context.Context, dir string, settings map[string]string) (*localpg.Server, error) {
	options := localpg.Options{Dir: dir, Settings: settings}
	if version := os.Getenv("MAILTALLY_TEST_POSTGRES"); version != "" {
		major, err := strconv.Atoi(version)
		if err != nil {
			return nil, fmt.Errorf("MAILTALLY_TEST_POSTGRES is %q, want a major version such as 18", version)
		}
		if options.BinDir, err = localpg.Fetch(ctx, dir, major); err != nil {
			return nil, err
		}
	}
	return localpg.Start(ctx, options)
}

// stop stops the server, if it ran, and removes its folder.
func (s *server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.pg != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		// Checked first, because Stop hides it: had it ended already?
		err = errors.Join(s.pg.Err(), s.pg.Stop(ctx))
	}
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// exec runs statements outside of a transaction, in the database named postgres.
func exec(ctx context.Context, pg *localpg.Server, statements ...string) error {
	conn, err := pgx.Connect(ctx, pg.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}
