package consumer_test

import (
	"context"
	"fmt"
	"math/bits"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/consumer"
	"github.com/mailtally/mailtally/tracking"
)

func (s *system) exec(sql ...string) {
	s.t.Helper()
	for _, sql := range sql {
		if _, err := s.owner.Exec(s.ctx, sql); err != nil {
			s.t.Fatalf("%s: %v", sql, err)
		}
	}
}

// raise adds a trigger that raises a SQLSTATE where a condition holds. The function that it
// returns removes it.
func (s *system) raise(state, on, condition string) (end func()) {
	s.t.Helper()
	s.exec("CREATE FUNCTION mailtally.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "+
		"IF "+condition+" THEN RAISE EXCEPTION 'raised' USING ERRCODE = '"+state+"'; END IF; RETURN NEW; END $$",
		"CREATE TRIGGER ill BEFORE INSERT ON "+on+" EXECUTE FUNCTION mailtally.raise()")
	return func() { s.exec("DROP FUNCTION mailtally.raise CASCADE") }
}

// An event that PostgreSQL does not accept, without refusing it for good, holds up its own
// partition: the rest of its batch is applied, and so is what comes later, and when it can
// be, it is.
func TestConsumer_OneRowHoldsUpItsPartition(t *testing.T) {
	t.Parallel()
	email := uuid.New()
	for name, begin := range map[string]func(s *system) (end func()){
		"a trigger raises P0001 for it": func(s *system) func() {
			return s.raise("P0001", "mailtally.email FOR EACH ROW", "NEW.id = '"+email.String()+"'")
		},
		"a trigger raises P0001 for all of a type": func(s *system) func() {
			return s.raise("P0001", "mailtally.email_event FOR EACH ROW", "NEW.type = 'clicked'")
		},
		"a trigger raises 23503 for it": func(s *system) func() {
			return s.raise("23503", "mailtally.email FOR EACH ROW", "NEW.id = '"+email.String()+"'")
		},
		"its row is locked": func(s *system) func() {
			tx, err := s.owner.Begin(s.ctx)
			if err != nil {
				s.t.Fatal(err)
			}
			s.t.Cleanup(func() { tx.Rollback(context.Background()) })
			if _, err := tx.Exec(s.ctx, "INSERT INTO mailtally.email (id, open_count, click_count, seen) VALUES ($1, 0, 0, '{}')", email); err != nil {
				s.t.Fatal(err)
			}
			return func() {
				if err := tx.Rollback(s.ctx); err != nil {
					s.t.Error(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			end := begin(s)
			var records []*kgo.Record
			for n := range 80 {
				records = append(records, webhook(uuid.New(), tracking.Opened, n))
			}
			records[40] = webhook(email, tracking.Clicked, 40)
			s.produce(records...)
			p, at := records[40].Partition, records[40].Offset
			ends := make(map[int32]int64)
			for _, r := range records {
				ends[r.Partition] = r.Offset + 1
			}
			ends[p] = at

			m := s.start(&tracking.Store{Pool: s.pool}, impatient)
			reached := func() bool {
				info := s.broker.Cluster.GroupInfo(group)
				for partition, end := range ends {
					if info == nil || info.Commits[topic][partition].Offset != end {
						return false
					}
				}
				return true
			}
			s.until("all but the partition to be committed", reached)
			s.until("the member to try again", func() bool { return strings.Count(m.logs.String(), "partition pausing") >= 2 })
			for n := range 10 {
				before := sum(t, "mailtally_events_applied_total", m)
				s.elsewhere(p, 1)
				s.until(fmt.Sprintf("event %d of another partition to be applied", n), func() bool { return sum(t, "mailtally_events_applied_total", m) > before })
			}
			if got := s.broker.Cluster.GroupInfo(group).Commits[topic][p].Offset; got != at {
				t.Errorf("committed %d of the partition, want %d", got, at)
			}
			for _, line := range []string{`msg="pausing`, "database lost"} {
				if strings.Contains(m.logs.String(), line) {
					t.Errorf("the member as a whole is held up: %s", m.logs)
				}
			}
			end()
			s.committed()
			m.stop()
			s.reconciled(m)
			if n := s.number("SELECT click_count FROM mailtally.email WHERE id = $1", email); n != 1 {
				t.Errorf("click_count is %d, want 1", n)
			}
			if n := len(s.deadLetters()); n != 0 {
				t.Errorf("%d dead letters, want none", n)
			}
		})
	}
}

// A partition that is held up moves to other members and back. It continues wherever it
// is, once it can, and nothing in it counts twice.
func TestConsumer_HeldUpPartitionMoves(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	email := uuid.New()
	end := s.raise("P0001", "mailtally.email FOR EACH ROW", "NEW.id = '"+email.String()+"'")
	for n := range 40 {
		s.produce(webhook(uuid.New(), tracking.Opened, n))
	}
	s.produce(webhook(email, tracking.Clicked, 40))
	s.opens(email, 41, 10)
	first := s.start(&tracking.Store{Pool: s.pool}, impatient)
	pauses := func(m *member) bool { return strings.Contains(m.logs.String(), "partition pausing") }
	s.until("the first member to pause", func() bool { return pauses(first) })
	second := s.start(&tracking.Store{Pool: s.pool}, impatient)
	s.joined(2)
	second.stop()
	s.joined(1)
	third := s.start(&tracking.Store{Pool: s.pool}, impatient)
	s.joined(2)
	first.stop()
	s.until("the last member to pause", func() bool { return pauses(third) })
	end()
	s.committed()
	third.stop()
	s.reconciled(first, second, third)
	if n := s.number("SELECT open_count + click_count FROM mailtally.email WHERE id = $1", email); n != 11 {
		t.Errorf("%d of its opens and clicks are counted, want 11", n)
	}
}

// PostgreSQL accepts nothing, and gives the SQLSTATE of a row that is too big, as it does
// when it protects itself from transaction ids that wrap around, or one that says nothing:
// no event becomes a dead letter, however long it lasts.
func TestI4_IllDatabaseMakesNoDeadLetter(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"54000", "22003", "23514", "P0001"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			end := s.raise(state, "mailtally.email FOR EACH STATEMENT", "true")
			for n := range 50 {
				s.produce(webhook(uuid.New(), tracking.Types()[n%10], n))
			}
			m := s.start(&tracking.Store{Pool: s.pool}, impatient)
			s.until("tries", func() bool { return sum(t, "mailtally_apply_retries_total", m) >= 12 })
			if n := s.uncommitted(); n != 50 {
				t.Errorf("%d records are uncommitted, want all 50", n)
			}
			end()
			s.committed()
			m.stop()
			s.reconciled(m)
			if n := s.number("SELECT count(*) FROM mailtally.email_event"); n != 50 {
				t.Errorf("%d events in the history, want 50", n)
			}
			if n := len(s.deadLetters()); n != 0 {
				t.Errorf("%d dead letters, want none", n)
			}
		})
	}
}

// An outage is not taken to pieces: before a writer gives up, it tries a few times as often
// as the batch can be halved.
func TestConsumer_HalvingAnOutageEndsSoon(t *testing.T) {
	t.Parallel()
	const n = 1500 // one writer's
	for _, code := range []string{"42P01", "54000", "P0001", "55P03"} {
		s := newSystem(t)
		records := make([]*kgo.Record, n)
		for i := range records {
			records[i] = webhook(uuid.New(), tracking.Opened, i)
		}
		s.produce(records...)
		var calls atomic.Int64
		m := s.start(storeFunc(func(context.Context, []tracking.Event) (tracking.Result, error) {
			calls.Add(1)
			return tracking.Result{}, &pgconn.PgError{Code: code}
		}))
		s.until("the member to pause", func() bool { return strings.Contains(m.logs.String(), "pausing") })
		m.stop()
		if most := int64(bits.Len(n) + 4); calls.Load() > 2*most { // two rounds, if it was on its way again
			t.Errorf("%s: %d tries, want at most %d before the pause", code, calls.Load(), most)
		}
		s.t.Logf("%s: %d tries", code, calls.Load())
	}
}

// A trigger that keeps rows out in silence: no event is taken for a duplicate. Each is
// either counted or a dead letter.
func TestI4_RowsKeptOutByATrigger(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.exec("CREATE FUNCTION mailtally.keep_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN right(NEW.id::text, 1) < '4' THEN NULL ELSE NEW END; END $$",
		"CREATE TRIGGER keep_out BEFORE INSERT ON mailtally.email FOR EACH ROW EXECUTE FUNCTION mailtally.keep_out()")
	out := 0
	for n := range 40 {
		email := uuid.New()
		if email[15]&0xf < 4 {
			out++
		}
		s.produce(webhook(email, tracking.Opened, n))
	}
	m := s.start(&tracking.Store{Pool: s.pool}, impatient)
	s.committed()
	m.stop()
	s.reconciled(m)
	if n := sum(t, "mailtally_events_applied_total", m); n != 40-out {
		t.Errorf("%d events applied, want %d", n, 40-out)
	}
	letters := s.deadLetters()
	if len(letters) != out {
		t.Errorf("%d dead letters, want %d", len(letters), out)
	}
	for _, letter := range letters {
		if header(letter, "reason") != "refused" || !strings.Contains(header(letter, "detail"), "trigger") || len(letter.Value) == 0 {
			t.Errorf("dead letter: %v", letter.Headers)
		}
	}
}

// Where PostgreSQL refuses one event after another, the member stops dropping them, and
// says so. It resumes by itself once an event is applied, or when it is told to.
func TestI4_RefusalsInARowStop(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.exec("ALTER TABLE mailtally.email_event ADD CONSTRAINT no_clicks CHECK (type <> 'clicked')")
	email := uuid.New()
	clicks := make([]*kgo.Record, 30)
	for n := range clicks {
		clicks[n] = webhook(email, tracking.Clicked, n)
	}
	s.produce(clicks...)
	m := s.start(&tracking.Store{Pool: s.pool}, impatient, func(o *consumer.Options) { o.MaxRefused = 10 })
	stopped := func() int { return sum(t, "mailtally_dropping_stopped", m) }
	s.until("the member to stop dropping", func() bool { return strings.Contains(m.logs.String(), "level=ERROR msg=\"dropping stopped") })
	if n := len(s.deadLetters()); n != 10 || stopped() != 1 {
		t.Errorf("%d dead letters, and the metric is %d, want 10 and 1", n, stopped())
	}
	s.until("it to try again", func() bool { return strings.Count(m.logs.String(), "dropping stopped") >= 3 })
	if n := len(s.deadLetters()); n != 10 {
		t.Errorf("%d dead letters after it stopped, want 10", n)
	}
	// An event of another partition is applied: the next ten may go.
	s.elsewhere(clicks[0].Partition, 1)
	s.until("ten more", func() bool { return len(s.deadLetters()) == 20 && stopped() == 1 })
	m.stop()
	s.reconciled(m)

	told := s.start(&tracking.Store{Pool: s.pool}, func(o *consumer.Options) { o.MaxRefused = -1 })
	s.committed()
	told.stop()
	s.reconciled(m, told)
	if n := len(s.deadLetters()); n != 30 {
		t.Errorf("%d dead letters, want all 30", n)
	}
}
