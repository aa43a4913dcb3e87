package testpg

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/internal/localpg"
)

// Standby is a synchronous standby that a server's commits wait for, while it is away.
// There is no such standby: the server is told to wait for one.
type Standby struct {
	t    testing.TB
	pool *pgxpool.Pool // only reads: its commits would wait too
}

// NewStandby is for a server of the test's own. It is not asked for until Away.
func NewStandby(t testing.TB, pg *localpg.Server) *Standby {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), pg.URL("postgres"))
	if err != nil {
		t.Fatalf("testpg: %v", err)
	}
	t.Cleanup(pool.Close)
	return &Standby{t, pool}
}

// Away makes all commits wait.
func (s *Standby) Away() {
	s.t.Helper()
	s.set("'nobody'")
	// The server applies the setting in its own time: commits that change nothing find
	// out when.
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_, _ = s.pool.Exec(ctx, "SELECT pg_logical_emit_message(true, 'testpg', '')")
		}
	}()
	probe := s.Waiting(Commit{})
	cancel()
	<-ended
	for s.waits(probe) { // pgx cancels it in the background
	}
}

// Back lets all commits through, also those that are waiting.
func (s *Standby) Back() {
	s.t.Helper()
	s.set("DEFAULT")
}

// Commit is one that waits.
type Commit struct {
	PID   int32     // of its server process
	Began time.Time // when its transaction began
}

// Waiting returns the earliest of the commits that wait and began after that one, as soon
// as there is one.
func (s *Standby) Waiting(after Commit) Commit {
	s.t.Helper()
	for deadline := time.Now().Add(sqlTimeout); time.Now().Before(deadline); {
		if list := s.commits("xact_start > $1", after.Began); len(list) > 0 {
			return list[0]
		}
	}
	s.t.Fatal("testpg: no commit waits for the standby")
	return Commit{}
}

// waits tells whether that commit, or a later one of its process, still waits.
func (s *Standby) waits(c Commit) bool {
	s.t.Helper()
	return len(s.commits("pid = $1", c.PID)) > 0
}

// commits are those that wait.
func (s *Standby) commits(where string, arg any) []Commit {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), sqlTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, "SELECT pid, xact_start FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND "+where+" ORDER BY xact_start", arg)
	if err != nil {
		s.t.Fatalf("testpg: %v", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Commit])
	if err != nil {
		s.t.Fatalf("testpg: %v", err)
	}
	return list
}

func (s *Standby) set(names string) {
	s.t.Helper()
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = " + names, "SELECT pg_reload_conf()"} {
		ctx, cancel := context.WithTimeout(s.t.Context(), sqlTimeout)
		_, err := s.pool.Exec(ctx, sql)
		cancel()
		if err != nil {
			s.t.Fatalf("testpg: %s: %v", sql, err)
		}
	}
}
