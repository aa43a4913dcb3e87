package tracking_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/internal/faults"
	"github.com/mailtally/mailtally/internal/testpg"
	"github.com/mailtally/mailtally/tracking"
)

// The connection is lost after PostgreSQL has committed and before it could say so: the
// batch succeeds and reports its first open, instead of coming out as duplicates on a
// retry.
func TestI3_LostCommitAnswer(t *testing.T) {
	t.Parallel()
	direct := newPool(t)
	for name, test := range map[string]struct {
		arm       func(p *faults.Proxy, cut *atomic.Int32)
		committed bool
	}{
		"after the commit": {func(p *faults.Proxy, cut *atomic.Int32) {
			p.OnResponse(func(chunk []byte) bool {
				return !bytes.Contains(chunk, []byte("COMMIT\x00")) || cut.Add(1) > 1
			})
		}, true},
		"before the commit": {func(p *faults.Proxy, cut *atomic.Int32) {
			p.OnRequest(func(chunk []byte) bool {
				return !bytes.Contains(chunk, []byte("COMMIT\x00")) || cut.Add(1) > 1
			})
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := faults.NewProxy(t, direct.Config().ConnConfig.Host+fmt.Sprintf(":%d", direct.Config().ConnConfig.Port))
			var cut atomic.Int32
			test.arm(proxy, &cut)
			store := &tracking.Store{Pool: connect(t, through(t, asConsumer(t, direct), proxy))}
			email := uuid.New()

			r, err := store.Apply(t.Context(), []tracking.Event{event(email, tracking.Opened, 0)})
			if cut.Load() == 0 {
				t.Fatal("the connection was not cut")
			}
			if test.committed {
				if err != nil || r.FirstOpens != 1 {
					t.Fatalf("result %+v, error %v; want a first open", r, err)
				}
				return
			}
			if err == nil || tracking.RetryReason(err) != tracking.RetryConnection {
				t.Fatalf("error %v, want one of the connection", err)
			}
			if r := apply(t.Context(), t, store, event(email, tracking.Opened, 0)); r.FirstOpens != 1 {
				t.Errorf("applied again, it reports %d first opens, want 1", r.FirstOpens)
			}
		})
	}
}

// A writer that is stopped or cut off while it holds row locks, before or during its
// history, does not block the others for long: its transaction is ended.
func TestApply_CutOffWriterFreesItsRows(t *testing.T) {
	t.Parallel()
	for name, forwarded := range map[string]bool{"before COPY": false, "in mid-COPY": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := newPool(t)
			proxy := faults.NewProxy(t, direct.Config().ConnConfig.Host+fmt.Sprintf(":%d", direct.Config().ConnConfig.Port))
			stalled, end := make(chan struct{}), make(chan struct{})
			release := sync.OnceFunc(func() { close(end) })
			defer release()
			var copying atomic.Bool
			var hold sync.Once
			proxy.OnRequest(func(chunk []byte) bool {
				begins := bytes.Contains(chunk, []byte("COPY mailtally.email_event"))
				if begins && forwarded && copying.CompareAndSwap(false, true) {
					return true // hold everything from here on
				}
				if begins || copying.Load() {
					hold.Do(func() { close(stalled) })
					<-end
					return false
				}
				return true
			})
			email := uuid.New()
			zombie := make(chan error, 1)
			store := &tracking.Store{Pool: connect(t, through(t, asConsumer(t, direct), proxy))}
			// More history than is sent with the statement.
			events := eventsOf(email, tracking.Clicked, 0, 5000)
			go func() {
				_, err := store.Apply(context.Background(), events)
				zombie <- err
			}()
			<-stalled

			patience, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			other := &tracking.Store{Pool: asConsumer(t, direct)}
			if forwarded {
				waitFor(t, direct, "the writer to stand in COPY",
					"SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'ClientRead' AND datname = current_database()")
				other.SetTimeout(time.Second)
				if _, err := other.Apply(patience, []tracking.Event{event(email, tracking.Opened, 1)}); tracking.RetryReason(err) != tracking.RetryTimeout {
					t.Errorf("the first try gives %v, want a time-out", err)
				}
			}
			for {
				r, err := other.Apply(patience, []tracking.Event{event(email, tracking.Opened, 1)})
				if err == nil {
					if r.FirstOpens != 1 {
						t.Errorf("%d first opens, want 1", r.FirstOpens)
					}
					break
				}
				if patience.Err() != nil || tracking.RetryReason(err) != tracking.RetryTimeout {
					t.Fatal(err)
				}
			}
			proxy.OnRequest(nil) // let it ask what became of its transaction
			release()
			if err := <-zombie; err == nil {
				t.Error("the cut-off writer believes that it has committed")
			}
			compare(t.Context(), t, direct, []tracking.Event{event(email, tracking.Opened, 1)})
		})
	}
}

// PostgreSQL crashes under a writer in mid-transaction, and gives the forgotten
// transaction id to somebody else, who commits. The writer does not mistake that for
// its own commit.
func TestI1_ReusedTransactionID(t *testing.T) {
	t.Parallel()
	direct := connect(t, testpg.Server(t, nil).URL("postgres"))
	if err := tracking.Migrate(t.Context(), direct); err != nil {
		t.Fatal(err)
	}
	if _, err := direct.Exec(t.Context(), "CREATE TABLE other AS SELECT 1 AS x"); err != nil {
		t.Fatal(err)
	}
	var victim int
	if err := direct.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&victim); err != nil {
		t.Fatal(err)
	}
	proxy := faults.NewProxy(t, direct.Config().ConnConfig.Host+fmt.Sprintf(":%d", direct.Config().ConnConfig.Port))
	var crash sync.Once
	proxy.OnRequest(func(chunk []byte) bool {
		if !bytes.Contains(chunk, []byte("COPY mailtally.email_event")) {
			return true
		}
		crash.Do(func() {
			if err := syscall.Kill(victim, syscall.SIGKILL); err != nil { // as the OOM killer does to any backend
				t.Error(err)
			}
			for t.Context().Err() == nil {
				if _, err := direct.Exec(t.Context(), "INSERT INTO other VALUES (1)"); err == nil {
					break
				}
			}
		})
		return false
	})
	email := uuid.New()
	_, err := (&tracking.Store{Pool: connect(t, through(t, direct, proxy))}).Apply(t.Context(), []tracking.Event{event(email, tracking.Opened, 0)})
	if err == nil {
		t.Error("an event that is not stored was taken for committed")
	}
	if r := apply(t.Context(), t, &tracking.Store{Pool: direct}, event(email, tracking.Opened, 0)); r.FirstOpens != 1 {
		t.Errorf("applied again, it reports %d first opens, want 1", r.FirstOpens)
	}
}

// through is the URL of pool's database via proxy.
func through(t testing.TB, pool *pgxpool.Pool, proxy *faults.Proxy) string {
	t.Helper()
	u, err := url.Parse(pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	u.Host = proxy.Addr()
	return u.String()
}

// What the database refuses for good is told apart from what may pass.
func TestApply_ErrorsAreClassified(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	store := &tracking.Store{Pool: asConsumer(t, pool)}
	poison := event(uuid.New(), tracking.Clicked, 0)
	poison.Link = "https://example.com/poison"

	exec := func(sql string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("ALTER TABLE mailtally.email_event ADD CONSTRAINT no_poison CHECK (link NOT LIKE '%poison')")
	var refused *tracking.RefusedError
	_, err := store.Apply(t.Context(), []tracking.Event{event(uuid.New(), tracking.Opened, 0), poison})
	if err == nil || errors.As(err, &refused) {
		t.Errorf("among others, a violated constraint gives %v, want an error that blames no event", err)
	}
	_, err = store.Apply(t.Context(), []tracking.Event{poison})
	if !errors.As(err, &refused) || refused.Detail() != "SQLSTATE 23514, constraint no_poison" {
		t.Errorf("a violated constraint gives %v", err)
	}
	if strings.Contains(err.Error(), "poison") && strings.Contains(err.Error(), "https://") {
		t.Errorf("the error quotes data: %v", err)
	}

	exec("ALTER TABLE mailtally.email_event DETACH PARTITION mailtally.email_event_default")
	stray := event(uuid.New(), tracking.Opened, 0)
	stray.OccurredAt = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err = store.Apply(t.Context(), []tracking.Event{stray}); err == nil || errors.As(err, &refused) {
		t.Errorf("a missing partition gives %v, want an error that may pass", err)
	}

	exec("ALTER TABLE mailtally.email RENAME TO email_gone")
	_, err = store.Apply(t.Context(), []tracking.Event{event(uuid.New(), tracking.Opened, 0)})
	if err == nil || errors.As(err, &refused) || tracking.RetryReason(err) != tracking.RetrySchema {
		t.Errorf("a missing table gives %v", err)
	}
}

// Whatever PostgreSQL quotes of a row, for example in an operator's trigger, the error
// does not repeat it. What PostgreSQL says about itself is kept.
func TestErrorsQuoteNoRow(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	store := &tracking.Store{Pool: asConsumer(t, pool)}
	exec := func(sql string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	click := event(uuid.New(), tracking.Clicked, 0)
	for _, state := range []string{"P0001", "22023", "23505", "23514", "42501", "54000", "XX000"} {
		exec(`CREATE OR REPLACE FUNCTION mailtally.quote() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			RAISE EXCEPTION 'a row with %', NEW.link USING ERRCODE = '` + state + `', DETAIL = NEW.link, HINT = NEW.link; END $$`)
		exec("CREATE OR REPLACE TRIGGER quote BEFORE INSERT ON mailtally.email_event FOR EACH ROW EXECUTE FUNCTION mailtally.quote()")
		_, err := store.Apply(t.Context(), []tracking.Event{click})
		if err == nil || !strings.Contains(err.Error(), state) || strings.Contains(err.Error(), "example.com") {
			t.Errorf("the error is %v, want SQLSTATE %s and no link", err, state)
		}
	}
	exec("ALTER TABLE mailtally.email RENAME TO email_gone")
	if _, err := store.Apply(t.Context(), []tracking.Event{click}); err == nil || !strings.Contains(err.Error(), `relation "mailtally.email" does not exist`) {
		t.Errorf("the error is %v, want to be told of the table", err)
	}
}

// Only a row's content can make PostgreSQL refuse it for good. Everything else may
// pass: dropping events for it would empty the topic.
func TestClassify(t *testing.T) {
	t.Parallel()
	refused := []string{"22001", "22003", "22007", "22008", "22021", "22P02", "22P05", "54000", "23514"}
	passing := map[string]string{
		"08006": tracking.RetryConnection, "25006": tracking.RetryConnection, "25P03": tracking.RetryConnection,
		"28P01": tracking.RetryConnection, "57P01": tracking.RetryConnection, "57P03": tracking.RetryConnection,
		"40001": tracking.RetryConflict, "40P01": tracking.RetryConflict,
		"53100": tracking.RetryResources, "53200": tracking.RetryResources, "53300": tracking.RetryResources,
		"57014": tracking.RetryTimeout, "55P03": tracking.RetryTimeout, "P0001": tracking.RetryOther, "XX000": tracking.RetryOther,
		"42P01": tracking.RetrySchema, "42501": tracking.RetrySchema, "3F000": tracking.RetrySchema,
		"22P03": tracking.RetrySchema, "23502": tracking.RetrySchema, "23503": tracking.RetrySchema, "23505": tracking.RetrySchema,
	}
	var refusal *tracking.RefusedError
	for _, code := range refused {
		if err := tracking.Classify(fmt.Errorf("x: %w", &pgconn.PgError{Code: code, ConstraintName: "c"})); !errors.As(err, &refusal) {
			t.Errorf("%s may pass, want it refused", code)
		}
	}
	for code, reason := range passing {
		err := tracking.Classify(fmt.Errorf("x: %w", &pgconn.PgError{Code: code, ConstraintName: "c"}))
		if errors.As(err, &refusal) || tracking.RetryReason(err) != reason {
			t.Errorf("%s: %v, reason %s, want one that may pass by reason %s", code, err, tracking.RetryReason(err), reason)
		}
	}
}
