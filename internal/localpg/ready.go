package localpg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errExited is wrapped by waitReady's error where the server's process ended.
var errExited = errors.New("the server exited")

// serverArgs returns the arguments of postgres. Where a setting is given
// twice, PostgreSQL takes the last: the caller can't move the server off
// loopback.
func serverArgs(data string, port int, settings map[string]string) []string {
	args := []string{"-D", data}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return append(args,
		"-c", "port="+strconv.Itoa(port),
		"-c", "listen_addresses=127.0.0.1",
		// A socket's path may have no more than some 100 bytes, and TCP is enough.
		"-c", "unix_socket_directories=",
		// The log is our standard error, in English: portTaken reads it.
		"-c", "log_destination=stderr",
		"-c", "logging_collector=off",
		"-c", "lc_messages=C",
	)
}

// waitReady returns once the server answers a query.
func (s *Server) waitReady(ctx context.Context) error {
	const first, last = 2 * time.Millisecond, 50 * time.Millisecond
	timer := time.NewTimer(0)
	defer timer.Stop()
	for pause := first; ; pause = min(2*pause, last) {
		select {
		case <-s.done:
			return fmt.Errorf("%w: %w\n%s", errExited, s.process.exit(), s.log.tail())
		case <-ctx.Done():
			return fmt.Errorf("wait until it answers: %w\n%s", context.Cause(ctx), s.log.tail())
		case <-timer.C:
		}
		// Until this very process says that it has bound the port, another
		// server might answer there.
		if s.cluster.readyPID() == s.process.pid() {
			err := s.ping(ctx)
			if err == nil {
				return nil
			}
			if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(pgErr.Code, "28") {
				return fmt.Errorf("log in with the password of %s: %w", s.cluster.path(passwordFile), err)
			}
		}
		timer.Reset(pause)
	}
}

func (s *Server) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT 1")
	return errors.Join(err, conn.Close(ctx))
}
